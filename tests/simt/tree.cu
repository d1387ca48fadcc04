/* y[0] = sum of x[0 .. 128 * nblocks): groups of 4 blocks, the last of a group adds up its four, the
 * last of the groups all of them.  nblocks is a multiple of 4. */
GTC_KERNEL(32) tree(float *__restrict__ y, const float *__restrict__ x, float *__restrict__ part,
                    gtc_u32 *__restrict__ counter)
{
    int t = gtc_tid(), group = gtc_bid() / 4, groups = gtc_nblocks() / 4;
    const float *row = x + gtc_bid() * 128;
    float s = row[t] + row[t + 32] + row[t + 64] + row[t + 96];
    for (int m = 16; m > 0; m /= 2)
        s += gtc_shfl_xor_f(s, m);
    if (t == 0) {
        float *all = part + gtc_nblocks();
        part[gtc_bid()] = s;
        if (gtc_last_of(counter + group, 4)) {
            all[group] = part[4 * group] + part[4 * group + 1] + part[4 * group + 2] + part[4 * group + 3];
            if (gtc_last_of(counter + groups, groups)) {
                s = 0.0f;
                for (int g = 0; g < groups; g++)
                    s += all[g];
                y[0] = s + (part[0] - part[0]);
            }
        }
    }
}
GTC_ENTRY(tree, (*(float **)a[0], *(const float **)a[1], *(float **)a[2], *(gtc_u32 **)a[3]))
