/* y[r] = softmax(x[r]) of a row a block, and the greatest of the row's numbers as whole ones behind
 * all rows. */
#define COLS 300
GTC_KERNEL(96) softmax(float *__restrict__ y, const float *__restrict__ x)
{
    float *part = (float *)gtc_smem();    /* [3] */
    int *most = (int *)(gtc_smem() + 12); /* [3] */
    int t = gtc_tid(), n = gtc_nblocks(), whole = 0;
    const float *row = x + gtc_bid() * COLS;
    float m = -GTC_INF, s = 0.0f;
    for (int c = t; c < COLS; c += 96)
        m = gtc_max_f(m, row[c]);
    whole = (int)m;
    m = gtc_block_max_f(m, part, 3, __LINE__);
    for (int c = t; c < COLS; c += 96)
        s += gtc_exp_f(row[c] - m);
    s = gtc_block_add_f(s, part, 3, __LINE__); /* a sum */
    for (int c = t; c < COLS; c += 96)
        y[gtc_bid() * COLS + c] = gtc_exp_f(row[c] - m) / s;
    whole = gtc_block_max_i(whole, most, 3, __LINE__);
    if (t == 0)
        y[n * COLS + gtc_bid()] = (float)whole;
}
GTC_ENTRY(softmax, (*(float **)a[0], *(const float **)a[1]))
