#include "worker/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<uint8_t> File(absl::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::vector<uint8_t> file(sizeof(length) + header.size() + data_bytes);
  std::memcpy(file.data(), &length, sizeof(length));
  std::memcpy(file.data() + sizeof(length), header.data(), header.size());
  return file;
}

// The header entry of a [2, 4] F16 tensor at `begin`.
std::string Entry(absl::string_view name, int begin) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[", begin,
                      ",", begin + 16, "]}");
}

absl::Status StatusOf(absl::string_view header, size_t data_bytes) {
  const std::vector<uint8_t> file = File(header, data_bytes);
  return ParseSafetensors(file).status();
}

auto Refused(absl::string_view why) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(why)));
}

TEST(Safetensors, GivesEveryTensorItsBytes) {
  const std::vector<uint8_t> file =
      File(absl::StrCat(R"({"__metadata__":{"format":"pt"},)", Entry("b", 16), ",", Entry("a", 0),
                        R"(,"ids":{"dtype":"I64","shape":[],"data_offsets":[32,40]}}   )"),
           40);
  ASSERT_OK_AND_ASSIGN(const auto tensors, ParseSafetensors(file));
  ASSERT_EQ(tensors.size(), 3);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, DType::kF16);
  EXPECT_THAT(tensors[0].shape, ElementsAre(2, 4));
  EXPECT_EQ(tensors[0].bytes.data(), file.data() + file.size() - 40);
  EXPECT_EQ(tensors[1].bytes.data(), tensors[0].bytes.data() + 16);
  EXPECT_EQ(tensors[2].dtype, std::nullopt);
  EXPECT_EQ(tensors[2].type_name, "I64");
}

TEST(Safetensors, RefusesHeadersThatAreCutOffOrTooLong) {
  EXPECT_THAT(ParseSafetensors({}), Refused("it has 0 bytes"));
  std::vector<uint8_t> file = File("{}", 0);
  ASSERT_THAT(ParseSafetensors(file), IsOk());
  file[0] = 3;
  EXPECT_THAT(ParseSafetensors(file), Refused("said to have 3 bytes; the file has 10"));
  std::fill_n(file.begin(), 8, 0xff);
  EXPECT_THAT(ParseSafetensors(file), Refused("the limit is 100000000"));
}

TEST(Safetensors, RefusesWhatIsNotAnObjectOfEntries) {
  EXPECT_THAT(StatusOf("", 0), Refused("not a JSON object"));
  EXPECT_THAT(StatusOf("[]", 0), Refused("not a JSON object"));
  EXPECT_THAT(StatusOf("{\"a\":", 0), Refused("not a JSON object"));
  EXPECT_THAT(StatusOf("{\"a\":1}", 0), Refused("tensor \"a\": its entry must be an object"));
  EXPECT_THAT(StatusOf("{\"a\":[1]}", 0), Refused("tensor \"a\": its entry must be an object"));
  EXPECT_THAT(StatusOf(R"({"a":{"dtype":"F16","shape":[[[1]]],"data_offsets":[0,2]}})", 2),
              Refused("nested too deeply"));
  EXPECT_THAT(StatusOf(std::string(100000, '['), 0), Refused("nested too deeply"));
}

TEST(Safetensors, RefusesEntriesWithWrongMembers) {
  const auto with = [](absl::string_view dtype, absl::string_view shape, absl::string_view at) {
    return StatusOf(absl::StrCat("{\"a\":{\"dtype\":", dtype, ",\"shape\":", shape,
                                 ",\"data_offsets\":", at, "}}"),
                    16);
  };
  EXPECT_THAT(with("\"F16\"", "[2,4]", "[0,16]"), IsOk());
  EXPECT_THAT(with("\"F13\"", "[2,4]", "[0,16]"), Refused("tensor \"a\": unknown \"dtype\""));
  EXPECT_THAT(with("7", "[2,4]", "[0,16]"), Refused("\"dtype\": want a string"));
  EXPECT_THAT(with("\"F16\"", "8", "[0,16]"), Refused("tensor \"a\": \"shape\" must be"));
  EXPECT_THAT(with("\"F16\"", "[-2,-4]", "[0,16]"), Refused("tensor \"a\": \"shape\" has"));
  EXPECT_THAT(with("\"F16\"", "[2,4.0]", "[0,16]"), Refused("tensor \"a\": \"shape\" has"));
  EXPECT_THAT(with("\"F16\"", "[2,4]", "[0]"), Refused("tensor \"a\": \"data_offsets\""));
  EXPECT_THAT(with("\"F16\"", "[2,4]", "[16,0]"), Refused("tensor \"a\": bytes [16, 0)"));
  EXPECT_THAT(with("\"F16\"", "[2,4]", "[0,17]"), Refused("lie outside the file's 16 bytes"));
  EXPECT_THAT(with("\"F16\"", "[2,3]", "[0,16]"), Refused("don't come to its 16 bytes"));
  EXPECT_THAT(with("\"F16\"", "[1099511627776,1099511627776,8]", "[0,16]"),
              Refused("don't come to"));
}

TEST(Safetensors, RefusesOverlapsHolesAndDuplicates) {
  EXPECT_THAT(StatusOf(absl::StrCat("{", Entry("a", 0), ",", Entry("b", 8), "}"), 24),
              Refused("tensor \"b\": starts at byte 8 of the data, where 16 would not overlap"));
  EXPECT_THAT(StatusOf(absl::StrCat("{", Entry("a", 0), ",", Entry("b", 20), "}"), 36),
              Refused("tensor \"b\": starts at byte 20 of the data, where 16 would leave no hole"));
  EXPECT_THAT(StatusOf(absl::StrCat("{", Entry("a", 0), "}"), 17),
              Refused("the tensors end at byte 16 of 17"));
  EXPECT_THAT(StatusOf(absl::StrCat("{", Entry("a", 0), ",", Entry("a", 16), "}"), 32),
              Refused("tensor \"a\": the name appears twice"));
}

class SafetensorsFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/safetensors_",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(absl::string_view name, const std::vector<uint8_t>& bytes) {
    std::ofstream(absl::StrCat(folder_, "/", name))
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
  }
  void WriteIndex(absl::string_view weight_map) {
    const std::string text = absl::StrCat("{\"weight_map\":{", weight_map, "}}");
    Write("model.safetensors.index.json", {text.begin(), text.end()});
  }

  std::string folder_;
};

TEST_F(SafetensorsFolder, JoinsTheShardsOfAnIndex) {
  Write("one.safetensors", File(absl::StrCat("{", Entry("a", 0), "}"), 16));
  Write("two.safetensors", File(absl::StrCat("{", Entry("b", 0), "}"), 16));
  WriteIndex(R"("a":"one.safetensors","b":"two.safetensors")");
  ASSERT_OK_AND_ASSIGN(const TensorSet set, OpenSafetensorsFolder(folder_));
  EXPECT_EQ(set.files.size(), 2);
  EXPECT_TRUE(set.tensors.contains("a"));
  EXPECT_TRUE(set.tensors.contains("b"));
}

TEST_F(SafetensorsFolder, RefusesAnIndexThatDoesNotFitItsShards) {
  Write("one.safetensors", File(absl::StrCat("{", Entry("a", 0), "}"), 16));
  WriteIndex(R"("a":"one.safetensors","b":"one.safetensors")");
  EXPECT_THAT(OpenSafetensorsFolder(folder_), Refused("tensor \"b\": not in one.safetensors"));
  WriteIndex(R"("a":"gone.safetensors")");
  EXPECT_THAT(OpenSafetensorsFolder(folder_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("gone.safetensors")));
  Write("two.safetensors", File(absl::StrCat("{", Entry("a", 0), "}"), 16));
  WriteIndex(R"("a":"one.safetensors","b":"two.safetensors")");
  EXPECT_THAT(OpenSafetensorsFolder(folder_), Refused("tensor \"a\": another shard has it too"));
}

TEST_F(SafetensorsFolder, RefusesShardNamesThatLeaveTheFolder) {
  for (const absl::string_view name :
       {"../x.safetensors", "/x.safetensors", "sub/x.safetensors", "x.bin", ""}) {
    WriteIndex(absl::StrCat("\"a\":\"", name, "\""));
    EXPECT_THAT(OpenSafetensorsFolder(folder_), Refused("is not the name of a safetensors file"));
  }
  WriteIndex("\"a\":7");
  EXPECT_THAT(OpenSafetensorsFolder(folder_), Refused("is not the name of a safetensors file"));
}

TEST_F(SafetensorsFolder, SaysWhatItLookedForWhereNothingIs) {
  EXPECT_THAT(OpenSafetensorsFolder(folder_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.safetensors.index.json")));
}

}  // namespace
}  // namespace tandem
