/* Balls in flight over level surfaces, W side by side (W = 1: a scalar loop): gravity, drag and
 * Magnus force by RK4, impacts located by Newton's method within bisection, the impulse law. */
#include <math.h>

#ifndef REAL
#define REAL double
#endif
#ifndef W
#define W 1
#endif
#define LANES _Pragma("omp simd") for (int l = 0; l < W; l++)

typedef REAL real;
typedef struct { real x[3][W], v[3][W], w[3][W]; } Block;
typedef struct { double height, half[2], restitution, friction; } Surface; /* upwards: z = height */
typedef struct { double gravity, drag, magnus, radius, inertia, rest_speed; } World;

static inline void accelerate(const World *p, const real v[3][W], const real w[3][W], real a[3][W])
{
    const real g = p->gravity, d = p->drag, m = p->magnus;
    LANES {
        real k = d * (real)sqrt(v[0][l] * v[0][l] + v[1][l] * v[1][l] + v[2][l] * v[2][l]);
        a[0][l] = m * (w[1][l] * v[2][l] - w[2][l] * v[1][l]) - k * v[0][l];
        a[1][l] = m * (w[2][l] * v[0][l] - w[0][l] * v[2][l]) - k * v[1][l];
        a[2][l] = m * (w[0][l] * v[1][l] - w[1][l] * v[0][l]) - k * v[2][l] + g;
    }
}

/* One step of h seconds, its own in each lane; the spin stays. */
static inline void step(const World *p, const Block *b, const real h[W], Block *out)
{
    real a[4][3][W], v[3][W];
    accelerate(p, b->v, b->w, a[0]);
    for (int stage = 1; stage < 4; stage++) {
        const real share = stage < 3 ? (real)0.5 : (real)1;
        for (int i = 0; i < 3; i++) LANES v[i][l] = b->v[i][l] + share * h[l] * a[stage - 1][i][l];
        accelerate(p, v, b->w, a[stage]);
    }
    for (int i = 0; i < 3; i++) LANES {
        real s = a[0][i][l] + a[1][i][l] + a[2][i][l];
        out->x[i][l] = b->x[i][l] + h[l] * (b->v[i][l] + h[l] * s / 6);
        out->v[i][l] = b->v[i][l] + h[l] * (s + a[1][i][l] + a[2][i][l] + a[3][i][l]) / 6;
        out->w[i][l] = b->w[i][l];
    }
}

/* The state at which the lanes marked meet the plane, and after which share of h[]. */
static void meet(const World *p, const Block *b, const Block *end, const real h[W], real plane,
                 const int marked[W], Block *hit, real s[W])
{
    real low[W], high[W], part[W];
    const real tiny = 4 * (sizeof(real) == 4 ? 1.2e-7 : 2.3e-16);
    for (int l = 0; l < W; l++) { /* first guess: the parabola */
        real gap = b->x[2][l] - plane, slope = b->v[2][l] * h[l];
        real bend = end->x[2][l] - b->x[2][l] - slope;
        real root = sqrt(fmax(0, slope * slope - 4 * bend * gap));
        real guess = slope > 0 ? (slope + root) / (-2 * bend) : 2 * gap / (root - slope);
        low[l] = 0, high[l] = 1;
        s[l] = marked[l] && guess > 0 && guess <= 1 ? guess : marked[l];
    }
    for (int again = 1, n = 0; again && n < 60; n++) {
        again = 0;
        LANES part[l] = s[l] * h[l];
        step(p, b, part, hit);
        for (int l = 0; l < W; l++) {
            real gap = hit->x[2][l] - plane;
            if (!marked[l] || fabs(gap) <= tiny * (1 + fabs(plane))) continue;
            if (gap > 0) low[l] = s[l]; else high[l] = s[l];
            real newton = s[l] - gap / (h[l] * hit->v[2][l]);
            s[l] = newton >= low[l] && newton <= high[l] ? newton : (low[l] + high[l]) / 2;
            again = 1;
        }
    }
}

/* Impulse law of a level surface in one lane. Returns whether the ball would stay on it. */
static int bounce(const World *p, const Surface *s, Block *b, int l)
{
    const real r = p->radius, a = p->inertia;
    real push = -(1 + s->restitution) * b->v[2][l];
    real rub[2] = {b->v[0][l] - r * b->w[1][l], b->v[1][l] + r * b->w[0][l]};
    real size = sqrt(rub[0] * rub[0] + rub[1] * rub[1]) / (1 + 1 / a), most = s->friction * push;
    real scale = (size > most ? most / size : 1) / -(1 + 1 / a);
    rub[0] *= scale, rub[1] *= scale;
    b->v[0][l] += rub[0], b->v[1][l] += rub[1], b->v[2][l] += push;
    b->w[0][l] += rub[1] / (a * r), b->w[1][l] -= rub[0] / (a * r);
    b->x[2][l] = (real)s->height + r;
    return b->v[2][l] < p->rest_speed;
}

/* `seconds` of W balls; surfaces from the highest to the lowest. Balls arc downwards, so that one
 * above a plane at both ends of a step has not met it. Returns how many lanes came to rest. */
static int advance(const World *p, const Surface *surfaces, int count, Block *b, real seconds)
{
    real left[W], s[W];
    int resting = 0, more = 1;
    LANES left[l] = seconds;
    for (int n = 0; more && n < 100; n++) {
        Block next, hit;
        real past[W]; /* share of the time at which the lane bounced, 1 if it did not */
        LANES past[l] = 1;
        more = 0;
        step(p, b, left, &next);
        for (int k = 0; k < count; k++) {
            const real plane = (real)surfaces[k].height + (real)p->radius;
            int marked[W], any = 0;
            LANES {
                marked[l] = (past[l] == 1) & (b->x[2][l] >= plane) & (next.x[2][l] < plane);
                any |= marked[l];
            }
            if (!any) continue;
            meet(p, b, &next, left, plane, marked, &hit, s);
            for (int l = 0; l < W; l++) {
                if (!marked[l] || fabs(hit.x[0][l]) > surfaces[k].half[0]
                    || fabs(hit.x[1][l]) > surfaces[k].half[1]) continue;
                resting += bounce(p, surfaces + k, &hit, l);
                for (int i = 0; i < 3; i++) {
                    next.x[i][l] = hit.x[i][l];
                    next.v[i][l] = hit.v[i][l];
                    next.w[i][l] = hit.w[i][l];
                }
                past[l] = s[l];
                more = 1;
            }
        }
        *b = next;
        LANES left[l] *= 1 - past[l];
    }
    return resting + W * more;
}

/* Fly balls first … last − 1 in place, of which number i is at data[number * ball + i * part],
 * i over position, velocity and spin. Returns how many came to rest, which is not followed. */
int fly(const World *p, const Surface *surfaces, int count, real *data, long ball, long part,
        long first, long last, double seconds, int steps)
{
    int resting = 0;
    for (long start = first; start < last; start += W) {
        Block b;
        const long most = last - start < W ? last - start : W;
        for (int i = 0; i < 9; i++) {
            real *row = i < 3 ? b.x[i] : i < 6 ? b.v[i - 3] : b.w[i - 6];
            for (int l = 0; l < W; l++)
                row[l] = data[(start + (l < most ? l : most - 1)) * ball + i * part];
        }
        for (int n = 0; n < steps; n++) resting += advance(p, surfaces, count, &b, seconds / steps);
        for (int i = 0; i < 9; i++) {
            const real *row = i < 3 ? b.x[i] : i < 6 ? b.v[i - 3] : b.w[i - 6];
            for (int l = 0; l < most; l++) data[(start + l) * ball + i * part] = row[l];
        }
    }
    return resting;
}
