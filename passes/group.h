/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_PASSES_GROUP_H
#define GTC_PASSES_GROUP_H

#include "passes/pass.h"

/* Groups over the nodes of one graph: which of them run as one kernel.  A pass forms and grows
 * them; group_extract then builds the graph in which each is a fusion node.
 *
 * A group stays legal at every step: no path leaves it and enters it again, seen with every other
 * group as one node, so that the fused graph has an order.  Views, consts and iotas are free: they
 * belong to nobody, and each group copies those it reads through. */
typedef struct Groups Groups;
typedef uint32_t GroupId; /* 0: none */

typedef struct GroupLimits {
    uint32_t nodes;   /* compute nodes in one group */
    uint32_t buffers; /* its arguments and results */
} GroupLimits;

Groups *group_start(PassCx *pcx, const Graph *in, GroupLimits limits);

/* Free for group id (0: for any): a group copies it instead of reading it.  A pad in front of a
 * scan is not: it runs before. */
bool group_is_free(const Groups *gs, GroupId id, Ref r);
/* A node that may become a member: it computes, is in no group and holds no fusion. */
bool group_is_open(const Groups *gs, Ref r);
GroupId group_of(const Groups *gs, Ref r);

/* The nodes that use r, in order; *n of them. */
const Ref *group_users(const Groups *gs, Ref r, uint32_t *n);
/* The value behind free nodes: r itself unless it is a free view, then what that shows. */
Ref group_source(const Groups *gs, Ref r);
/* True when the graph's caller, or a group that computes a user of it again, wants r. */
bool group_is_output(const Groups *gs, Ref r);
/* True when a node outside the group, or an output of the graph, reads member r. */
bool group_leaves(const Groups *gs, GroupId id, Ref r);

/* The members, in the order they were added. */
const Ref *group_members(const Groups *gs, GroupId id, uint32_t *n);
/* The values it reads, in the order of first use. */
const Ref *group_reads(Groups *gs, GroupId id, uint32_t *n);

/* A group of one open node (of any node, for isolate), and of the gets of a scan. */
GroupId group_new(Groups *gs, Ref seed);
/* Adds an open node when the group stays legal and within limits; false when not. */
bool group_grow(Groups *gs, GroupId id, Ref r);
/* Gives up all members: they are open again. */
void group_drop(Groups *gs, GroupId id);
/* Moves all of `from` into `into` when that is legal and within limits. */
bool group_merge(Groups *gs, GroupId into, GroupId from);

/* Builds out, where every group is a fusion.  A body that target->refuse will not have gives up
 * its members, last added first, until it is taken or one is left. */
Status group_extract(Groups *gs, Graph *out);

/* label.c: what a body is called in dumps and kernels: [a-z0-9_], at most 40. */
const char *group_label(Arena *arena, const Graph *body);
const char *group_label_region(Arena *arena, const Region *region); /* its kind alone */

#endif
