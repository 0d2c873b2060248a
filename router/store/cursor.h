#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "router/store/sql.h"

namespace tandem {

// Where the next page of `listing` begins: after the row with these values (numbers and text).
std::string EncodeCursor(absl::string_view listing, absl::Span<const SqlValue> position);

// The values of a cursor, of the types of `first`, which is what an empty cursor means: the
// position before every row. InvalidArgument: no cursor of this listing.
absl::StatusOr<std::vector<SqlValue>> DecodeCursor(absl::string_view listing,
                                                   absl::string_view cursor,
                                                   std::vector<SqlValue> first);

}  // namespace tandem
