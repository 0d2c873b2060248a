/* The handoff of docs/KV.md: two handoffs from one prefill process P to one decode process D, over one link.
 *
 * What each side does in each state is not written here: handoff_tables.pml is made from the tables that the code runs.
 * This file is everything around them: the engines, the link with its epochs, messages that are lost, repeated, swapped
 * or late, frames that land in a window before they are copied, timers, crashes.
 *
 * Two settings:
 *   default    the handoffs are two attempts of one request. Faults have budgets (the macros below); timers may fire at
 *              any moment. Nothing may be told twice, a handoff that D calls complete holds its own bytes alone, P calls
 *              complete only what D did, an older attempt never completes once D knows of a newer one, and at the end
 *              nobody holds a block for nothing.
 *   TWO        they are two requests, each side has room for one, and nothing fails and no timer fires: both complete.
 *
 * Bytes are stood for by a number: handoff a's own are OWN(a), others are wrong. A frame's digest is the number that it
 * was made from. Each MUTANT_... takes one safeguard away; check.py expects every one of them to be caught.
 */
#include "handoff_tables.pml"

#ifndef LOST
#define LOST 0
#endif
#ifndef TWICE
#define TWICE 0
#endif
#ifndef SWAPPED
#define SWAPPED 0
#endif
#ifndef P_CRASHES
#define P_CRASHES 0
#endif
#ifndef D_CRASHES
#define D_CRASHES 0
#endif
#ifndef LINK_BREAKS
#define LINK_BREAKS 0
#endif
#ifndef LATE_WRITES
#define LATE_WRITES 0
#endif
#ifndef DEADLINES
#define DEADLINES 0
#endif

#define N 2      /* handoffs */
#define SLICES 2 /* of a prompt */
#define OWN(a) ((a) + 1)
#define NOBODY 0
#define OTHERS 9  /* the bytes of whoever has P's blocks next */
#define GARBAGE 8 /* of a late writer to the window */
#define GOOD 1
#define BAD 0
#define OFF 15    /* a sender that its engine has not begun, or that a crash took */

mtype = { RESERVE, RENEW, COMPLETE, ABORT, RESERVED, REFUSED, COMPLETED };

byte lost = LOST, twice = TWICE, swapped = SWAPPED, p_crashes = P_CRASHES, d_crashes = D_CRASHES;
byte link_breaks = LINK_BREAKS, late_writes = LATE_WRITES, deadlines = DEADLINES;
byte renewals = 0; /* that are worth a state of their own: something was lost since the last one */
hidden short act;

/* Of one step only. */
hidden byte a, which, event, was, epoch, gen, digest;
hidden mtype message;
hidden byte at_d;

/* The link: each side's epoch, 0 while it knows of no link. Messages carry their sender's. */
byte last_epoch = 1, p_epoch = 1, d_epoch = 1;
chan to_d = [2] of { mtype, byte /* handoff */, byte /* epoch */ };
chan to_p = [2] of { mtype, byte, byte, byte /* generation */ };
chan frames = [1] of { byte /* handoff */, byte /* epoch */, byte /* generation */, byte /* digest */ };
byte window = NOBODY; /* the landing window's only slot; free while `frames` is empty and nothing is copied */

bool p_lost;              /* P never comes back, and D never hears that the link is down */

/* P. */
bool p_has[N];         /* its engine has the request */
byte sender[N] = OFF;
byte p_block[N];       /* the bytes of the blocks that were computed for it */
byte pushed[N], p_generation[N];
byte gathering = N;    /* the handoff whose slice is being copied into the window */
bool p_ending[N];      /* to be told as soon as nothing is gathered */
byte p_told[N];
bool p_ok[N];

/* D. */
bool d_has[N], queued[N], asked[N], expected[N];
byte receiver[N] = R_UNKNOWN;
byte generation[N], last_generation;
byte filled[N];
mtype verdict[N];
bool d_ending[N], d_ok[N], ever_ok[N];
byte d_told[N];
byte holder = NOBODY;  /* of D's blocks: room for one handoff */
byte d_block[SLICES];
byte copying = N, copying_slice, copying_digest; /* out of the window */

inline send_to_d(message, a) {
  if
  :: nfull(to_d) -> to_d!message, a, p_epoch
  :: len(to_d) == 0 && twice > 0 -> twice--; to_d!message, a, p_epoch; to_d!message, a, p_epoch
  :: lost > 0 -> lost--; renewals = 1
  :: full(to_d) -> renewals = 1
  fi
}

inline send_to_p(message, a) {
  if
  :: nfull(to_p) -> to_p!message, a, d_epoch, generation[a]
  :: lost > 0 -> lost--; renewals = 1
  :: full(to_p) -> renewals = 1
  fi
}

/* What happens to a handoff in this step, in order; it is over before the step is. */
chan to_do = [6] of { byte /* at D */, byte /* handoff */, byte /* event */ };
inline p_event(a, event) { to_do!0, a, event }
inline d_event(a, event) { to_do!1, a, event }

/* --- P ------------------------------------------------------------------------------------------------------------ */

inline p_tell(a) {
  p_ending[a] = false;
  p_told[a]++;
  assert(p_told[a] == 1);
  assert(!p_ok[a] || ever_ok[a]);
  p_block[a] = OTHERS /* the engine gives its blocks to somebody else */
}

inline p_handle(a, event) {
  if
  :: sender[a] != OFF ->
    sender_step(sender[a], event);
    if :: act & SEND_RESERVE -> send_to_d(RESERVE, a) :: else fi;
    if :: act & SEND_RENEWLEASE -> send_to_d(RENEW, a) :: else fi;
    if :: act & SEND_COMPLETE -> send_to_d(COMPLETE, a) :: else fi;
    if :: act & SEND_ABORT -> send_to_d(ABORT, a) :: else fi;
    if
    :: act & REPORT ->
      p_ok[a] = (event == S_ON_COMPLETED);
      p_ending[a] = true
    :: else
    fi;
#ifdef MUTANT_COMPLETE_ALONE
    if :: event == S_ON_ALL_PUSHED && sender[a] == S_COMPLETING ->
          sender[a] = S_ENDED; p_ok[a] = true; p_ending[a] = true :: else fi;
#endif
    if
#ifndef MUTANT_TELL_WHILE_GATHERING
    :: p_ending[a] && gathering != a -> p_tell(a)
#else
    :: p_ending[a] -> p_tell(a)
#endif
    :: else
    fi
  :: else
  fi
}

/* --- D ------------------------------------------------------------------------------------------------------------ */

inline d_tell(a) {
  d_ending[a] = false;
  d_told[a]++;
  assert(d_told[a] == 1);
  if
  :: verdict[a] == COMPLETED ->
    d_ok[a] = true;
    assert(holder == OWN(a) && d_block[0] == OWN(a) && d_block[1] == OWN(a));
#ifndef TWO
    assert(a == 1 || receiver[1] == R_UNKNOWN)
#endif
  :: else -> holder = NOBODY
  fi
}

inline d_answer(a) {
  if
  :: verdict[a] == COMPLETED -> ever_ok[a] = true; send_to_p(COMPLETED, a)
  :: verdict[a] == REFUSED -> send_to_p(REFUSED, a)
  :: else -> send_to_p(ABORT, a)
  fi
}

inline d_handle(a, event) {
  was = receiver[a];
#ifdef MUTANT_COMPLETE_EARLY
  if :: receiver[a] == R_FILLING && event == R_ON_COMPLETE -> receiver[a] = R_FILLED :: else fi;
#endif
  receiver_step(receiver[a], event);
#ifdef MUTANT_NOT_REPLACED
  if :: event == R_ON_REPLACED -> receiver[a] = was; act = 0 :: else fi;
#endif
#ifdef MUTANT_TELL_TWICE
  if :: was == R_ENDED && event == R_ON_LINK_DOWN && expected[a] -> act = REPORT :: else fi;
#endif
  if
  :: was != R_ENDED && receiver[a] == R_ENDED ->
    verdict[a] = (act & SEND_COMPLETED -> COMPLETED : (act & SEND_REFUSED -> REFUSED : ABORT));
    if :: (act & (SEND_COMPLETED | SEND_REFUSED | SEND_ABORT)) -> d_answer(a) :: else fi
  :: was != R_ENDED && receiver[a] != R_ENDED && (act & SEND_ABORT) -> send_to_p(ABORT, a)
  :: else
  fi;
  if :: act & ASKED -> asked[a] = true :: else fi;
  if
  :: act & SEND_RESERVED ->
    if :: generation[a] == 0 -> last_generation++; generation[a] = last_generation :: else fi;
    send_to_p(RESERVED, a)
  :: else
  fi;
  if :: act & REPEAT_THE_VERDICT -> d_answer(a) :: else fi;
  if :: act & REPORT -> d_ending[a] = true :: else fi;
  if
#ifndef MUTANT_TELL_WHILE_COPYING
  :: d_ending[a] && copying != a -> d_tell(a)
#else
  :: d_ending[a] -> d_tell(a)
#endif
  :: else
  fi
}

/* A newer attempt ends the older one. */
inline d_appears(a) {
  if
#ifndef TWO
  :: a == 1 -> d_event(0, R_ON_REPLACED)
#endif
  :: else
  fi
}

#ifdef TWO
#define STALE(a) false
#define P_ROOM (sender[0] == S_ENDED)
#else
#define STALE(a) ((a) == 0 && receiver[1] != R_UNKNOWN)
#define P_ROOM true
#endif

inline d_link_down() {
  d_epoch = 0;
  d_event(0, R_ON_LINK_DOWN);
  d_event(1, R_ON_LINK_DOWN)
}

#define LEASED(a) (receiver[a] == R_FILLING || receiver[a] == R_FILLED || receiver[a] == R_COMPLETING)
#define FILLABLE(a) (receiver[a] == R_FILLING || receiver[a] == R_COMPLETING)

/* What makes the copied slice count. */
inline d_count(a) {
  filled[a]++;
  d_event(a, R_ON_FRAME_GOOD);
  if :: filled[a] == SLICES -> d_event(a, R_ON_ALL_FILLED) :: else fi
}

inline d_crash() {
  receiver[0] = R_UNKNOWN; receiver[1] = R_UNKNOWN;
  generation[0] = 0; generation[1] = 0;
  filled[0] = 0; filled[1] = 0;
  verdict[0] = 0; verdict[1] = 0;
  queued[0] = false; queued[1] = false; asked[0] = false; asked[1] = false;
  expected[0] = false; expected[1] = false;
  d_ending[0] = false; d_ending[1] = false; d_ok[0] = false; d_ok[1] = false;
  d_told[0] = 0; d_told[1] = 0;
  holder = NOBODY; d_block[0] = NOBODY; d_block[1] = NOBODY;
  copying = N; d_epoch = 0
}

/* With P, perhaps, the only one who could say that the connection is gone. */
inline p_crash() {
  if :: true -> p_lost = true :: true fi;
  sender[0] = OFF; sender[1] = OFF;
  p_ending[0] = false; p_ending[1] = false;
  p_block[0] = OTHERS; p_block[1] = OTHERS;
  gathering = N; p_epoch = 0
}

#define WINDOW_FREE (gathering == N && len(frames) == 0 && copying == N && p_epoch != 0)
#define QUIET(a) (receiver[a] == R_UNKNOWN || receiver[a] == R_ENDED)

active proctype World() {
  atomic {
    p_has[0] = true; d_has[0] = true;
#ifdef TWO
    p_has[1] = true; d_has[1] = true;
#endif
  };
  do
  :: atomic {
  if
  /* The router places a second attempt whenever it likes, and takes the first one back. */
#ifndef TWO
  :: !p_has[1] -> p_has[1] = true; d_has[1] = true
  :: p_has[1] && sender[0] != OFF && sender[0] != S_ENDED -> a = 0; p_event(0, S_ON_ABORT_CALL)
#endif

  /* P's engine: its requests in order, each with blocks of its own; in TWO one at a time. */
  :: p_has[0] && sender[0] == OFF && p_block[0] == NOBODY -> a = 0;
      p_block[a] = OWN(a); sender[a] = S_LINKING;
      if :: p_epoch != 0 -> p_event(a, S_ON_LINK_UP) :: else fi
  :: p_has[1] && sender[1] == OFF && p_block[1] == NOBODY && P_ROOM -> a = 1;
      p_block[a] = OWN(a); sender[a] = S_LINKING;
      if :: p_epoch != 0 -> p_event(a, S_ON_LINK_UP) :: else fi

  /* P links anew; D hears of it at once. */
  :: p_epoch == 0 && last_epoch < 3 && !p_lost ->
      last_epoch++; p_epoch = last_epoch;
      if :: d_epoch != 0 -> d_link_down() :: else fi;
      d_epoch = last_epoch;
      window = NOBODY;
      if :: frames?[a, epoch, gen, digest] -> frames?a, epoch, gen, digest :: else fi;
      copying = N;
      if :: d_ending[0] -> d_tell(0) :: else fi;
      if :: d_ending[1] -> d_tell(1) :: else fi;
      p_event(0, S_ON_LINK_UP); p_event(1, S_ON_LINK_UP)
  /* No link comes up for too long. */
  :: p_epoch == 0 && last_epoch == 3 && (sender[0] == S_LINKING || sender[1] == S_LINKING) ->
      p_event(0, S_ON_LINK_REFUSED); p_event(1, S_ON_LINK_REFUSED)

  /* P pushes: a slice is read from its blocks, then its frame is in the window. */
  :: WINDOW_FREE && sender[0] == S_PUSHING && pushed[0] < SLICES -> gathering = 0
  :: WINDOW_FREE && sender[1] == S_PUSHING && pushed[1] < SLICES -> gathering = 1
  :: gathering < N -> a = gathering;
      assert(p_told[a] == 0);
      window = p_block[a]; frames!a, p_epoch, p_generation[a], p_block[a];
      pushed[a]++; gathering = N;
      if :: p_ending[a] -> p_tell(a)
         :: else -> if :: pushed[a] == SLICES -> p_event(a, S_ON_ALL_PUSHED) :: else fi
      fi
  /* P says again whatever is unanswered. */
  :: renewals > 0 -> renewals--; p_event(0, S_ON_RENEWAL); p_event(1, S_ON_RENEWAL)
  :: to_p?message, a, epoch, gen ->
      if
      :: epoch != p_epoch -> skip
      :: else ->
        if
        :: message == RESERVED ->
          if :: sender[a] == S_RESERVING -> p_generation[a] = gen :: else fi;
          p_event(a, S_ON_RESERVED)
        :: message == REFUSED -> p_event(a, S_ON_REFUSED)
        :: message == ABORT -> p_event(a, S_ON_ABORT)
        :: message == COMPLETED -> p_event(a, S_ON_COMPLETED)
        fi
      fi

  /* D's engine: takes a request into its queue, gives it blocks once P has asked, decodes, frees them. */
  :: d_has[0] && !queued[0] -> queued[0] = true; d_has[0] = false;
      if :: STALE(0) :: else -> d_event(0, R_ON_ANNOUNCE) fi
  :: d_has[1] && !queued[1] -> queued[1] = true; d_has[1] = false;
      d_appears(1); d_event(1, R_ON_ANNOUNCE)
#ifndef MUTANT_BLOCKS_UNASKED
  :: queued[0] && asked[0] && !expected[0] && holder == NOBODY -> a = 0;
#else
  :: queued[0] && !expected[0] && holder == NOBODY -> a = 0;
#endif
      expected[a] = true; holder = OWN(a); d_block[0] = NOBODY; d_block[1] = NOBODY;
      d_event(a, R_ON_EXPECT)
#ifndef MUTANT_BLOCKS_UNASKED
  :: queued[1] && asked[1] && !expected[1] && holder == NOBODY -> a = 1;
#else
  :: queued[1] && !expected[1] && holder == NOBODY -> a = 1;
#endif
      expected[a] = true; holder = OWN(a); d_block[0] = NOBODY; d_block[1] = NOBODY;
      d_event(a, R_ON_EXPECT)
  :: d_ok[0] && holder == OWN(0) -> holder = NOBODY
  :: d_ok[1] && holder == OWN(1) -> holder = NOBODY

  :: to_d?message, a, epoch ->
      if
      :: epoch != d_epoch -> skip
      :: else ->
        if
        :: message == RESERVE && STALE(a) -> send_to_p(REFUSED, a)
        :: message == RESERVE && !STALE(a) -> d_appears(a); d_event(a, R_ON_RESERVE)
        :: message == RENEW -> d_event(a, R_ON_RENEWLEASE)
        :: message == COMPLETE -> d_event(a, R_ON_COMPLETE)
        :: message == ABORT -> d_event(a, R_ON_ABORT)
        fi
      fi

  /* A frame is in the window: its tag says where it goes; it is copied there; then the copy is judged. */
  :: copying == N && frames?[a, epoch, gen, digest] ->
      frames?a, epoch, gen, digest;
#ifndef MUTANT_NO_TAG
      if :: epoch == d_epoch && gen != 0 && gen == generation[a] && FILLABLE(a) ->
#else
      if :: FILLABLE(0) || FILLABLE(1) -> if :: FILLABLE(0) -> a = 0 :: else -> a = 1 fi;
#endif
#ifdef MUTANT_CHECK_FIRST
            if :: window != digest -> d_event(a, R_ON_FRAME_BAD) :: else -> copying = a fi;
#else
            copying = a;
#endif
            copying_slice = filled[a]; copying_digest = digest
         :: else -> window = NOBODY
      fi
  :: copying < N -> a = copying;
      assert(holder == OWN(a));
      d_block[copying_slice] = window; window = NOBODY;
      digest = (d_block[copying_slice] == copying_digest -> GOOD : BAD);
      copying = N; copying_slice = 0; copying_digest = 0;
      if
      :: d_ending[a] -> d_tell(a)
#ifdef MUTANT_CHECK_FIRST
      :: !d_ending[a] && FILLABLE(a) -> d_count(a)
#else
      :: !d_ending[a] && FILLABLE(a) && digest == GOOD -> d_count(a)
      :: !d_ending[a] && FILLABLE(a) && digest == BAD -> d_event(a, R_ON_FRAME_BAD)
#endif
      :: else
      fi

#ifndef TWO
  /* Timers, and what the router takes back: at any moment. */
#ifndef MUTANT_NO_LEASE
  :: LEASED(0) -> d_event(0, R_ON_LEASE_END)
  :: LEASED(1) -> d_event(1, R_ON_LEASE_END)
#endif
  :: receiver[0] == R_PARKED -> d_event(0, R_ON_PARK_END)
  :: receiver[1] == R_PARKED -> d_event(1, R_ON_PARK_END)
  :: receiver[0] == R_ANNOUNCED || receiver[0] == R_WAITING || receiver[0] == R_EXPECTED ->
      d_event(0, R_ON_CANCEL)
  :: receiver[1] == R_ANNOUNCED || receiver[1] == R_WAITING || receiver[1] == R_EXPECTED ->
      d_event(1, R_ON_CANCEL)
  :: deadlines > 0 && expected[0] -> deadlines--; d_event(0, R_ON_DEADLINE)
  :: deadlines > 0 && expected[1] -> deadlines--; d_event(1, R_ON_DEADLINE)

  /* Faults. */
  :: swapped > 0 && len(to_d) > 1 -> swapped--; to_d?message, a, epoch; to_d!message, a, epoch
  :: late_writes > 0 && (len(frames) > 0 || copying < N) -> late_writes--; window = GARBAGE
  :: p_crashes > 0 -> p_crashes--; p_crash()
  :: d_crashes > 0 -> d_crashes--; d_crash()
  :: link_breaks > 0 && p_epoch != 0 -> link_breaks--; p_epoch = 0;
      p_event(0, S_ON_LINK_DOWN); p_event(1, S_ON_LINK_DOWN)
  /* A side hears that the other one is gone, sooner or later. */
  :: p_epoch != 0 && d_epoch != p_epoch -> p_epoch = 0;
      p_event(0, S_ON_LINK_DOWN); p_event(1, S_ON_LINK_DOWN)
  :: d_epoch != 0 && d_epoch != p_epoch && !p_lost -> d_link_down()
#endif

  /* Nothing can happen any more. */
  :: timeout -> break
  fi;
  do
  :: to_do?at_d, which, event ->
    if :: at_d -> d_handle(which, event) :: else -> p_handle(which, event) fi
  :: empty(to_do) -> break
  od
  }
  od;
  atomic {
    assert(holder == NOBODY);
    assert(gathering == N && copying == N);
    a = 0;
    do
    :: a < N ->
      assert(QUIET(a) && (sender[a] == OFF || sender[a] == S_ENDED));
      assert(!expected[a] || d_told[a] == 1);
      assert(sender[a] != S_ENDED || p_told[a] == 1);
#ifdef TWO
      assert(p_ok[a] && ever_ok[a]);
#endif
      a++
    :: else -> break
    od
  }
}
