#pragma once
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tandem/config/v1/options.pb.h"

// How one value of a configuration file is written, read and limited, by its field's declaration.
namespace tandem {

const config::v1::FieldRule& RuleOf(const google::protobuf::FieldDescriptor* field);

// A message that the file writes as a mapping; a Duration is a scalar to the file.
bool IsSection(const google::protobuf::FieldDescriptor* field);

// Sets a singular scalar field, or appends to a repeated one. InvalidArgument says what the text
// should have been; the message is then unchanged.
absl::Status SetScalar(google::protobuf::Message* message,
                       const google::protobuf::FieldDescriptor* field, absl::string_view text);

// The inverse of SetScalar: the text as the file would have it, without quotes. `index` is that of
// a repeated field's entry and ignored otherwise.
std::string ScalarText(const google::protobuf::Message& message,
                       const google::protobuf::FieldDescriptor* field, int index);

// "ROLE_PREFILL" -> "prefill"; the zero value ("unspecified") has no name in a file.
std::string EnumShortName(const google::protobuf::EnumValueDescriptor* value);
std::vector<std::string> EnumShortNames(const google::protobuf::EnumDescriptor* type);

absl::Duration ToDuration(const google::protobuf::Duration& duration);
std::string FormatBytes(uint64_t bytes);  // "64MiB"; the largest unit that needs no fraction

}  // namespace tandem
