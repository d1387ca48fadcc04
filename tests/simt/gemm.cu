/* y[M][N] = x[M][K] w[K][N] by tiles of 16 x 16 in shared memory. */
#define M 33
#define N 45
#define K 37
GTC_KERNEL(256) gemm(float *__restrict__ y, const float *__restrict__ x, const float *__restrict__ w)
{
    float *sx = (float *)gtc_smem(); /* [16][17] */
    float *sw = sx + 16 * 17;        /* [16][16] */
    int i = gtc_tid() / 16, j = gtc_tid() % 16;
    int row = gtc_bid() / ((N + 15) / 16) * 16 + i, col = gtc_bid() % ((N + 15) / 16) * 16 + j;
    float acc = 0.0f;
    for (int k = 0; k < K; k += 16) {
        sx[i * 17 + j] = row < M && k + j < K ? x[row * K + k + j] : 0.0f;
        sw[i * 16 + j] = k + i < K && col < N ? w[(k + i) * N + col] : 0.0f;
        gtc_bar(); /* tiles are there */
        for (int q = 0; q < 16; q++)
            acc += sx[i * 17 + q] * sw[q * 16 + j];
        gtc_bar(); /* tiles are read */
    }
    if (row < M && col < N)
        y[row * N + col] = acc;
}
GTC_ENTRY(gemm, (*(float **)a[0], *(const float **)a[1], *(const float **)a[2]))
