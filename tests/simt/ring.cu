/* h[t+1][i] = (h[t][i] + h[t][i ^ 33]) / 2 + x[t][i], two slots of h in shared memory, one barrier a
 * step. */
#define STEPS 9
GTC_KERNEL(64) ring(float *__restrict__ y, const float *__restrict__ x)
{
    float *h = (float *)gtc_smem(); /* [2][64] */
    int i = gtc_tid();
    h[i] = 0.0f;
    gtc_bar();
    for (int t = 0; t < STEPS; t++) {
        const float *in = h + (t & 1) * 64;
        float *out = h + (1 - (t & 1)) * 64;
        out[i] = (in[i] + in[i ^ 33]) * 0.5f + x[t * 64 + i];
        gtc_bar(); /* a step */
    }
    y[i] = h[(STEPS & 1) * 64 + i];
}
GTC_ENTRY(ring, (*(float **)a[0], *(const float **)a[1]))
