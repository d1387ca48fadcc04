/* y[b] = sum of x over the rows that block b takes; N numbers. */
#define N 5000
GTC_KERNEL(256) reduce(float *__restrict__ y, const float *__restrict__ x)
{
    float *part = (float *)gtc_smem(); /* [8] */
    int t = gtc_tid();
    float s = 0.0f;
    for (int i = gtc_bid() * 256 + t; i < N; i += gtc_nblocks() * 256)
        s += x[i];
    s += gtc_shfl_xor_f(s, 16);
    s += gtc_shfl_xor_f(s, 8);
    s += gtc_shfl_xor_f(s, 4);
    s += gtc_shfl_xor_f(s, 2);
    s += gtc_shfl_xor_f(s, 1);
    if (t % 32 == 0)
        part[t / 32] = s;
    gtc_bar();
    if (t == 0) {
        float sum = 0.0f;
        for (int w = 0; w < 8; w++)
            sum += part[w];
        y[gtc_bid()] = sum;
    }
}
GTC_ENTRY(reduce, (*(float **)a[0], *(const float **)a[1]))
