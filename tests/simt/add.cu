/* y = x + z, N numbers. */
#define N 512
GTC_KERNEL(64) add(float *__restrict__ y, const float *__restrict__ x, const float *__restrict__ z,
                   float by)
{
    int i = gtc_bid() * 64 + gtc_tid();
    if (i < N)
        y[i] = x[i] + by * z[i];
}
GTC_ENTRY(add, (*(float **)a[0], *(const float **)a[1], *(const float **)a[2], *(float *)a[3]))
