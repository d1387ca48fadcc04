/* STEPS times y = half the sum of the neighbours, in a circle of 64 numbers a block; y and z are the
 * buffers, all blocks wait for each other between steps. */
#define STEPS 5
GTC_KERNEL(64) grid(float *__restrict__ y, const float *__restrict__ x, float *__restrict__ z,
                    gtc_u32 *__restrict__ counter)
{
    int n = gtc_nblocks() * 64, i = gtc_bid() * 64 + gtc_tid();
    int left = (i + n - 1) % n, right = (i + 1) % n;
    z[i] = x[i];
    gtc_grid_bar(counter); /* x is there */
    for (int step = 0; step < STEPS; step++) {
        const float *in = step & 1 ? y : z;
        float *out = step & 1 ? z : y;
        out[i] = 0.5f * (in[left] + in[right]);
        gtc_grid_bar(counter); /* a step */
    }
}
GTC_ENTRY(grid, (*(float **)a[0], *(const float **)a[1], *(float **)a[2], *(gtc_u32 **)a[3]))
