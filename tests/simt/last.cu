/* y[0 .. 4) = sums of x over i = 0, 1, 2, 3 (mod 4); each block leaves partial sums, the last one
 * adds them up in order. */
#define N 3000
GTC_KERNEL(64) last(float *__restrict__ y, const float *__restrict__ x, float *__restrict__ part,
                    gtc_u32 *__restrict__ counter)
{
    float *sm = (float *)gtc_smem(); /* [64] */
    int *flag = (int *)(gtc_smem() + 64 * 4);
    int t = gtc_tid();
    float s = 0.0f;
    for (int i = gtc_bid() * 64 + t; i < N; i += gtc_nblocks() * 64)
        s += x[i];
    sm[t] = s;
    gtc_bar();
    if (t < 4) {
        s = 0.0f;
        for (int k = 0; k < 16; k++)
            s += sm[t + 4 * k];
        part[gtc_bid() * 4 + t] = s;
    }
    gtc_bar(); /* partial sums are there */
    if (t == 0)
        *flag = gtc_last_of(counter, gtc_nblocks());
    gtc_bar(); /* the flag is there */
    if (*flag && t < 4) {
        s = 0.0f;
        for (int b = 0; b < gtc_nblocks(); b++)
            s += part[b * 4 + t];
        y[t] = s;
    }
}
GTC_ENTRY(last, (*(float **)a[0], *(const float **)a[1], *(float **)a[2], *(gtc_u32 **)a[3]))
