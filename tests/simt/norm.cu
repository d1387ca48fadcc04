/* y[r][c] = x[r][c] - mean of row r; a block takes every nblocks-th row. */
#define ROWS 13
#define COLS 200
GTC_KERNEL(128) norm(float *__restrict__ y, const float *__restrict__ x)
{
    float *part = (float *)gtc_smem(); /* [4] */
    int t = gtc_tid();
    for (int r = gtc_bid(); r < ROWS; r += gtc_nblocks()) {
        float s = 0.0f, mean = 0.0f;
        for (int c = t; c < COLS; c += 128)
            s += x[r * COLS + c];
        for (int m = 16; m > 0; m /= 2)
            s += gtc_shfl_xor_f(s, m);
        if (t % 32 == 0)
            part[t / 32] = s;
        gtc_bar(); /* parts are there */
        for (int w = 0; w < 4; w++)
            mean += part[w];
        mean = mean * (1.0f / COLS);
        for (int c = t; c < COLS; c += 128)
            y[r * COLS + c] = x[r * COLS + c] - mean;
        gtc_bar(); /* parts are read */
    }
}
GTC_ENTRY(norm, (*(float **)a[0], *(const float **)a[1]))
