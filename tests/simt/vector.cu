/* y = 2 x, four at a time; N is no multiple of four. */
#define N 1003
GTC_KERNEL(64) vector(float *__restrict__ y, const float *__restrict__ x)
{
    int i = 4 * (gtc_bid() * 64 + gtc_tid());
    if (i + 3 < N) {
        gtc_f4 v = gtc_ld_f4(x + i);
        v.x *= 2.0f;
        v.y *= 2.0f;
        v.z *= 2.0f;
        v.w *= 2.0f;
        gtc_st_f4(y + i, v);
    } else {
        for (; i < N; i++)
            y[i] = 2.0f * x[i];
    }
}
GTC_ENTRY(vector, (*(float **)a[0], *(const float **)a[1]))
