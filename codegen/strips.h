/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_STRIPS_H
#define GTC_CODEGEN_STRIPS_H

#include "codegen/planner.h"

/* What strips_roles.c (what each axis is), strips_online.c (which sums grow together),
 * strips_over.c (stages made over) and plan_strips.c (phases) share.  A set of units is a number
 * with a bit for each. */

/* What an axis is to the scores: theirs by rows, theirs by columns, one of their batch axes. */
typedef enum Role { ROLE_NONE, ROLE_ROW, ROLE_COL, ROLE_BATCH, MAX_BATCH = 3 } Role;
enum { ROLES = ROLE_BATCH + MAX_BATCH, MAX_UNITS = 64 };

typedef struct Unit { /* one root and the reductions that it uses */
    Nest n;
    uint8_t *role;         /* by Var */
    unsigned axes;         /* the roles that its axes have, a bit each */
    bool square;           /* has rows and columns, as the scores have */
    Role sums;             /* ROLE_ROW, ROLE_COL: it sums over those; else ROLE_NONE */
    bool gives;            /* stores an output */
    uint64_t needs, after; /* units whose results it reads; and theirs, and so on */
    uint64_t here;         /* those of `needs` of which it reads its own point alone */
    bool placed;           /* computed once, in the phase of `side`; else wherever it is needed */
    Role side;             /* the axis of it that is shared out there */
} Unit;

typedef struct Strips {
    Planner *pl;
    Stages *s;
    Unit unit[MAX_UNITS];
    int nunit, nbatch;
    uint8_t (*dim)[MAX_RANK]; /* by buffer: the role of each dimension */
    uint64_t *maker;          /* by buffer: the unit that stores it */
    int64_t count[ROLES];     /* points of an axis of each role */
    uint32_t nbuf;
    Var nvar;
} Strips;

static inline bool strips_in(uint64_t units, int i) { return units >> i & 1; }

/* The roles of all axes in these nests; false: they are no attention, or one that strips do not do.
 */
bool strips_roles(Strips *w, Planner *pl, const Nest *nest, int nnest);
/* Units that store what they make in a phase in which those of `targets` do;
 * *computed, if not NULL: and what others read at their own point alone and compute there. */
uint64_t strips_needed(const Strips *w, uint64_t targets, uint64_t *computed);
/* The unit that makes what READ expression e reads; -1: none, as of an input. */
int strips_maker(const Strips *w, const Expr *e);
/* The same where unit i reads it at its own point alone; else -1. */
int strips_here(const Strips *w, int i, const Expr *e);
/* The placed units of a side. */
uint64_t strips_placed(const Strips *w, Role side);

/* Sums that grow together with the greatest score (strips_online.c). */
typedef struct Online {
    uint64_t units;            /* of the phase */
    int greatest;              /* the unit that makes m of the greatest score */
    uint64_t sums;             /* those of terms with a factor exp(x - m) */
    ExprId divisor[MAX_UNITS]; /* of a sum in place of its terms, or 0; */
    int divides[MAX_UNITS];    /* the unit in whose axes it stands */
} Online;

/* Can all sums over `walk` in a phase of these units grow in one loop?  level: in which they would,
 * one after the other. */
bool strips_online(const Strips *w, uint64_t units, Role walk, const int *level, Online *o);

typedef struct Side { /* a phase of strips, or all of a head */
    Strips *w;
    Role grid, walk;     /* shared out over blocks; walked in tiles.  ROLE_NONE: whole */
    Var big[ROLES];      /* which tile, or which batch index */
    Var small[ROLES];    /* place in a tile; 0: not in tiles */
    int64_t tile[ROLES]; /* points of a tile; the last may have fewer */
    uint64_t units;      /* that are computed and stored here */
    uint64_t computed;   /* and those that others compute where they read them */
    uint64_t elsewhere;  /* that are computed in the other phase */
    uint64_t done;       /* of those that no loop makes again */
    uint16_t *to;        /* by buffer: its part that a block has, or 0 */
    uint16_t acc[MAX_UNITS][MAX_NEST_REDS]; /* what sums grow in */
    Phase *ph;
    uint32_t first; /* stage made over */
    const Unit *u;  /* whose expressions are made over */
    Ix *map;        /* by Var, in u */
    ExprId *made;   /* by ExprId, in u */
    ExprId nmade;
    Online online;
    bool is_online;
    bool growing;         /* what is made over stands in the one loop then */
    uint64_t made_before; /* units that an earlier nest of that loop has stored */
    uint16_t scale;       /* by what sums are multiplied when m grows */
} Side;

/* strips_over.c: nests at the end of the phase; walk: of the loops over tiles, in which they stand
 * (1 ..); 0: in none.  The unit itself; what it sums along the strip has grown. */
void strips_add_unit(Side *d, const Unit *u, int walk);
/* Does sum number j of unit u grow from tile to tile? */
bool strips_grows(const Side *d, const Unit *u, int j);
/* Room for such sums, and their first values; what a tile adds to them. */
void strips_start_sums(Side *d, const Unit *u);
void strips_grow_sums(Side *d, const Unit *u, int walk);
/* The same for the unit d->online.greatest, and by it the factor of what has been summed. */
void strips_grow_greatest(Side *d, int walk);

#endif
