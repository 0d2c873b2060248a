/* The tables of kvstore/handoff. TANDEM_UPDATE_DOCS=1 kvstore_handoff_test writes them. */
#define PARK 1
#define ASKED 2
#define LEASE 4
#define SEND_RESERVED 8
#define SEND_REFUSED 16
#define SEND_COMPLETED 32
#define SEND_ABORT 64
#define REPEAT_THE_VERDICT 128
#define REPORT 256
#define SEND_RESERVE 512
#define SEND_RENEWLEASE 1024
#define SEND_COMPLETE 2048
#define R_UNKNOWN 0
#define R_PARKED 1
#define R_ANNOUNCED 2
#define R_WAITING 3
#define R_EXPECTED 4
#define R_FILLING 5
#define R_FILLED 6
#define R_COMPLETING 7
#define R_ENDED 8
#define R_ON_RESERVE 0
#define R_ON_ANNOUNCE 1
#define R_ON_EXPECT 2
#define R_ON_FRAME_GOOD 3
#define R_ON_FRAME_BAD 4
#define R_ON_ALL_FILLED 5
#define R_ON_COMPLETE 6
#define R_ON_RENEWLEASE 7
#define R_ON_ABORT 8
#define R_ON_LINK_DOWN 9
#define R_ON_CANCEL 10
#define R_ON_PARK_END 11
#define R_ON_LEASE_END 12
#define R_ON_DEADLINE 13
#define R_ON_REPLACED 14
inline receiver_step(state, event) {
  if
  :: state == R_UNKNOWN && event == R_ON_RESERVE -> state = R_PARKED; act = PARK
  :: state == R_UNKNOWN && event == R_ON_ANNOUNCE -> state = R_ANNOUNCED; act = 0
  :: state == R_UNKNOWN && event == R_ON_EXPECT -> state = R_EXPECTED; act = 0
  :: state == R_UNKNOWN && event == R_ON_COMPLETE -> state = R_UNKNOWN; act = SEND_ABORT
  :: state == R_UNKNOWN && event == R_ON_RENEWLEASE -> state = R_UNKNOWN; act = SEND_ABORT
  :: state == R_UNKNOWN && event == R_ON_ABORT -> state = R_ENDED; act = 0
  :: state == R_PARKED && event == R_ON_ANNOUNCE -> state = R_WAITING; act = ASKED
  :: state == R_PARKED && event == R_ON_EXPECT -> state = R_FILLING; act = LEASE | SEND_RESERVED
  :: state == R_PARKED && event == R_ON_ABORT -> state = R_ENDED; act = 0
  :: state == R_PARKED && event == R_ON_LINK_DOWN -> state = R_UNKNOWN; act = 0
  :: state == R_PARKED && event == R_ON_PARK_END -> state = R_ENDED; act = SEND_REFUSED
  :: state == R_PARKED && event == R_ON_REPLACED -> state = R_ENDED; act = SEND_REFUSED
  :: state == R_ANNOUNCED && event == R_ON_RESERVE -> state = R_WAITING; act = ASKED
  :: state == R_ANNOUNCED && event == R_ON_EXPECT -> state = R_EXPECTED; act = 0
  :: state == R_ANNOUNCED && event == R_ON_ABORT -> state = R_ENDED; act = 0
  :: state == R_ANNOUNCED && event == R_ON_CANCEL -> state = R_ENDED; act = 0
  :: state == R_ANNOUNCED && event == R_ON_DEADLINE -> state = R_ENDED; act = 0
  :: state == R_ANNOUNCED && event == R_ON_REPLACED -> state = R_ENDED; act = 0
  :: state == R_WAITING && event == R_ON_EXPECT -> state = R_FILLING; act = LEASE | SEND_RESERVED
  :: state == R_WAITING && event == R_ON_ABORT -> state = R_ENDED; act = 0
  :: state == R_WAITING && event == R_ON_LINK_DOWN -> state = R_ANNOUNCED; act = 0
  :: state == R_WAITING && event == R_ON_CANCEL -> state = R_ENDED; act = SEND_REFUSED
  :: state == R_WAITING && event == R_ON_DEADLINE -> state = R_ENDED; act = SEND_ABORT
  :: state == R_WAITING && event == R_ON_REPLACED -> state = R_ENDED; act = SEND_REFUSED
  :: state == R_EXPECTED && event == R_ON_RESERVE -> state = R_FILLING; act = LEASE | SEND_RESERVED
  :: state == R_EXPECTED && event == R_ON_ABORT -> state = R_ENDED; act = REPORT
  :: state == R_EXPECTED && event == R_ON_CANCEL -> state = R_ENDED; act = REPORT
  :: state == R_EXPECTED && event == R_ON_DEADLINE -> state = R_ENDED; act = REPORT
  :: state == R_EXPECTED && event == R_ON_REPLACED -> state = R_ENDED; act = REPORT
  :: state == R_FILLING && event == R_ON_RESERVE -> state = R_FILLING; act = LEASE | SEND_RESERVED
  :: state == R_FILLING && event == R_ON_FRAME_GOOD -> state = R_FILLING; act = LEASE
  :: state == R_FILLING && event == R_ON_FRAME_BAD -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLING && event == R_ON_ALL_FILLED -> state = R_FILLED; act = 0
  :: state == R_FILLING && event == R_ON_COMPLETE -> state = R_COMPLETING; act = LEASE
  :: state == R_FILLING && event == R_ON_RENEWLEASE -> state = R_FILLING; act = LEASE
  :: state == R_FILLING && event == R_ON_ABORT -> state = R_ENDED; act = REPORT
  :: state == R_FILLING && event == R_ON_LINK_DOWN -> state = R_ENDED; act = REPORT
  :: state == R_FILLING && event == R_ON_CANCEL -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLING && event == R_ON_LEASE_END -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLING && event == R_ON_DEADLINE -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLING && event == R_ON_REPLACED -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLED && event == R_ON_RESERVE -> state = R_FILLED; act = LEASE | SEND_RESERVED
  :: state == R_FILLED && event == R_ON_FRAME_BAD -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLED && event == R_ON_COMPLETE -> state = R_ENDED; act = SEND_COMPLETED | REPORT
  :: state == R_FILLED && event == R_ON_RENEWLEASE -> state = R_FILLED; act = LEASE
  :: state == R_FILLED && event == R_ON_ABORT -> state = R_ENDED; act = REPORT
  :: state == R_FILLED && event == R_ON_LINK_DOWN -> state = R_ENDED; act = REPORT
  :: state == R_FILLED && event == R_ON_CANCEL -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLED && event == R_ON_LEASE_END -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLED && event == R_ON_DEADLINE -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_FILLED && event == R_ON_REPLACED -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_COMPLETING && event == R_ON_FRAME_GOOD -> state = R_COMPLETING; act = LEASE
  :: state == R_COMPLETING && event == R_ON_FRAME_BAD -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_COMPLETING && event == R_ON_ALL_FILLED -> state = R_ENDED; act = SEND_COMPLETED | REPORT
  :: state == R_COMPLETING && event == R_ON_COMPLETE -> state = R_COMPLETING; act = LEASE
  :: state == R_COMPLETING && event == R_ON_RENEWLEASE -> state = R_COMPLETING; act = LEASE
  :: state == R_COMPLETING && event == R_ON_ABORT -> state = R_ENDED; act = REPORT
  :: state == R_COMPLETING && event == R_ON_LINK_DOWN -> state = R_ENDED; act = REPORT
  :: state == R_COMPLETING && event == R_ON_CANCEL -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_COMPLETING && event == R_ON_LEASE_END -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_COMPLETING && event == R_ON_DEADLINE -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_COMPLETING && event == R_ON_REPLACED -> state = R_ENDED; act = SEND_ABORT | REPORT
  :: state == R_ENDED && event == R_ON_RESERVE -> state = R_ENDED; act = REPEAT_THE_VERDICT
  :: state == R_ENDED && event == R_ON_EXPECT -> state = R_ENDED; act = REPORT
  :: state == R_ENDED && event == R_ON_COMPLETE -> state = R_ENDED; act = REPEAT_THE_VERDICT
  :: state == R_ENDED && event == R_ON_RENEWLEASE -> state = R_ENDED; act = REPEAT_THE_VERDICT
  :: else -> act = 0
  fi
}
#define S_LINKING 0
#define S_RESERVING 1
#define S_PUSHING 2
#define S_COMPLETING 3
#define S_ENDED 4
#define S_ON_LINK_UP 0
#define S_ON_LINK_DOWN 1
#define S_ON_LINK_REFUSED 2
#define S_ON_RESERVED 3
#define S_ON_REFUSED 4
#define S_ON_ABORT 5
#define S_ON_ALL_PUSHED 6
#define S_ON_COMPLETED 7
#define S_ON_RENEWAL 8
#define S_ON_ABORT_CALL 9
#define S_ON_DEADLINE 10
#define S_ON_FAULT 11
inline sender_step(state, event) {
  if
  :: state == S_LINKING && event == S_ON_LINK_UP -> state = S_RESERVING; act = SEND_RESERVE
  :: state == S_LINKING && event == S_ON_LINK_REFUSED -> state = S_ENDED; act = REPORT
  :: state == S_LINKING && event == S_ON_ABORT_CALL -> state = S_ENDED; act = REPORT
  :: state == S_LINKING && event == S_ON_DEADLINE -> state = S_ENDED; act = REPORT
  :: state == S_RESERVING && event == S_ON_LINK_DOWN -> state = S_LINKING; act = 0
  :: state == S_RESERVING && event == S_ON_RESERVED -> state = S_PUSHING; act = 0
  :: state == S_RESERVING && event == S_ON_REFUSED -> state = S_ENDED; act = REPORT
  :: state == S_RESERVING && event == S_ON_ABORT -> state = S_ENDED; act = REPORT
  :: state == S_RESERVING && event == S_ON_RENEWAL -> state = S_RESERVING; act = SEND_RESERVE
  :: state == S_RESERVING && event == S_ON_ABORT_CALL -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_RESERVING && event == S_ON_DEADLINE -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_RESERVING && event == S_ON_FAULT -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_PUSHING && event == S_ON_LINK_DOWN -> state = S_ENDED; act = REPORT
  :: state == S_PUSHING && event == S_ON_REFUSED -> state = S_ENDED; act = REPORT
  :: state == S_PUSHING && event == S_ON_ABORT -> state = S_ENDED; act = REPORT
  :: state == S_PUSHING && event == S_ON_ALL_PUSHED -> state = S_COMPLETING; act = SEND_COMPLETE
  :: state == S_PUSHING && event == S_ON_RENEWAL -> state = S_PUSHING; act = SEND_RENEWLEASE
  :: state == S_PUSHING && event == S_ON_ABORT_CALL -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_PUSHING && event == S_ON_DEADLINE -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_PUSHING && event == S_ON_FAULT -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_COMPLETING && event == S_ON_LINK_DOWN -> state = S_ENDED; act = REPORT
  :: state == S_COMPLETING && event == S_ON_REFUSED -> state = S_ENDED; act = REPORT
  :: state == S_COMPLETING && event == S_ON_ABORT -> state = S_ENDED; act = REPORT
  :: state == S_COMPLETING && event == S_ON_COMPLETED -> state = S_ENDED; act = REPORT
  :: state == S_COMPLETING && event == S_ON_RENEWAL -> state = S_COMPLETING; act = SEND_COMPLETE
  :: state == S_COMPLETING && event == S_ON_ABORT_CALL -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_COMPLETING && event == S_ON_DEADLINE -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: state == S_COMPLETING && event == S_ON_FAULT -> state = S_ENDED; act = SEND_ABORT | REPORT
  :: else -> act = 0
  fi
}
