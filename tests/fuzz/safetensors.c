/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: what is taken has tensors that tile the data, each as long as its type says. */
#include <string.h>

#include "tests/fuzz/target.h"
#include "train/checkpoint.h"

enum { FIRST = 100 }; /* to be looked up: that costs a walk each */

static Status read_safetensors(Ctx *cx)
{
    size_t n;
    int64_t total = 0;
    unsigned char sum = 0;
    Checkpoint *c;
    const unsigned char *bytes = (const unsigned char *)fuzz_bytes(&n);
    TRY(checkpoint_read(cx, "input.safetensors", &c));
    fuzz_accepted();
    for (int i = 0; i < c->ntensor; i++) {
        const GtcTensor *t = &c->tensor[i];
        const int64_t size = type_bytes(&t->type);
        fuzz_check(size >= 0 && (uint64_t)size <= n, "%s has %lld bytes", t->name, (long long)size);
        for (int64_t k = 0; k < size; k++)
            sum ^= ((const unsigned char *)t->data)[k];
        fuzz_check(i >= FIRST || checkpoint_find(c, t->name) == t, "%s is there twice", t->name);
        total += size;
    }
    for (int i = 0; i < c->nmeta && i < FIRST; i++)
        fuzz_check(checkpoint_get(c, c->meta[i].key) == c->meta[i].value, "%s", c->meta[i].key);
    for (size_t k = n - (size_t)total; k < n; k++)
        sum ^= bytes[k];
    fuzz_check(sum == 0, "the tensors are not the data");
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    fuzz_check(8 + header + (uint64_t)total == n, "%lld bytes of tensors", (long long)total);
    checkpoint_free(c);
    return ST_OK;
}

const FuzzTarget fuzz_safetensors = { "safetensors", "input.safetensors", read_safetensors };
