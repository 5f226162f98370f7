// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/node/codec/json_codec.hpp"

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "../../include/cohort/core/error.hpp"
#include "../support/harness.hpp"

namespace cohort::test::json_codec_test {

struct range {
  std::uint64_t from = 0, to = 0;
  bool operator==(const range&) const = default;
};

struct job {
  range work;
  std::optional<int> priority;
  std::vector<std::string> names;
  std::map<int, double> weights;
  as_string<std::uint64_t> id;
};

struct stop {};

struct keyed {
  int class_ = 0;
  std::chrono::milliseconds time{};
};

/// Has a member that is called as the tag is.
struct typed {
  std::string type;
  int number = 0;
};

enum class color : std::uint8_t { red, green };

struct others {
  bool flag = false;
  color paint = color::red;
  std::pair<int, std::string> pair;
  std::tuple<int, bool> tuple;
  std::array<int, 3> array{};
  std::set<int> set;
  std::unique_ptr<range> owned;
  std::vector<std::uint8_t> bytes;
  double real = 0;
  json anything;
};

struct celsius {
  celsius() = default;
  explicit celsius(double d) : degrees(d) {}
  double degrees = 0;
};

struct weather {
  celsius outside;
};

using message = std::variant<job, stop, typed, std::string>;
using renamed = std::variant<range, keyed>;
using shaped = std::variant<range, keyed>;
using open_message = std::variant<stop, json>;

}  // namespace cohort::test::json_codec_test

template <>
inline constexpr auto cohort::json_members<cohort::test::json_codec_test::keyed> = cohort::names("class", "time");

template <>
inline constexpr std::string_view cohort::json_tag<cohort::test::json_codec_test::renamed> = "kind";

template <>
inline constexpr std::string_view cohort::json_name<cohort::test::json_codec_test::keyed> = "key";

template <>
struct cohort::json_codec<cohort::test::json_codec_test::celsius> {
  using celsius = test::json_codec_test::celsius;
  static json write(const celsius& value) { return value.degrees; }
  static celsius read(const json& from) {
    if (!from.is_number()) throw std::runtime_error("no temperature");
    return celsius(from.get<double>());
  }
};

namespace cohort::test::json_codec_test {
namespace {

template <class T>
std::string failure_of(std::error_code code, const char* text) {
  try {
    read_json<T>(json::parse(text));
  } catch (const std::system_error& error) {
    CHECK(error.code() == code);
    const std::string what = error.what();
    return what.substr(0, what.size() - code.message().size() - 2);
  }
  return "";
}

template <class T>
std::string mismatch(const char* text) {
  return failure_of<T>(make_error_code(errc::schema_mismatch), text);
}

PLAIN_TEST("a struct is an object with the names of its members") {
  job j;
  j.work = {1, 9007199254740992};
  j.names = {"a", "b"};
  j.weights = {{5, 1.5}};
  j.id = 18446744073709551615u;
  const json written = write_json(j);
  CHECK(written == json::parse(R"({"work":{"from":1,"to":9007199254740992},"names":["a","b"],"weights":{"5":1.5},
                                   "id":"18446744073709551615"})"));
  const auto read = read_json<job>(written);
  CHECK(read.work == j.work);
  CHECK_FALSE(read.priority);
  CHECK(read.names == j.names);
  CHECK(read.weights == j.weights);
  CHECK(read.id == 18446744073709551615u);
}

PLAIN_TEST("every kind of member survives") {
  others o;
  o.flag = true;
  o.paint = color::green;
  o.pair = {1, "p"};
  o.tuple = {2, true};
  o.array = {1, 2, 3};
  o.set = {3, 4};
  o.owned = std::make_unique<range>(range{5, 6});
  o.bytes = {0, 255};
  o.real = -0.5;
  o.anything = json::parse(R"({"x":[null]})");
  const auto read = read_json<others>(write_json(o));
  CHECK(read.flag);
  CHECK(read.paint == color::green);
  CHECK(read.pair == o.pair);
  CHECK(read.tuple == o.tuple);
  CHECK(read.array == o.array);
  CHECK(read.set == o.set);
  CHECK(*read.owned == *o.owned);
  CHECK(read.bytes == o.bytes);
  CHECK(read.real == o.real);
  CHECK(read.anything == o.anything);

  json with_buffer = write_json(o);
  with_buffer["bytes"] = json::binary({7, 8});
  with_buffer["real"] = nullptr;
  with_buffer["owned"] = nullptr;
  const auto other = read_json<others>(with_buffer);
  CHECK(other.bytes == std::vector<std::uint8_t>{7, 8});
  CHECK(std::isnan(other.real));
  CHECK_FALSE(other.owned);
}

PLAIN_TEST("members that are not known are ignored, and one that is missing is named by its path") {
  CHECK(read_json<range>(json::parse(R"({"from":1,"to":2,"more":[]})")) == range{1, 2});
  CHECK(mismatch<job>(R"({"work":{"to":1}})") == "$.work.from: missing");
  CHECK(mismatch<std::vector<range>>(R"([{"from":1,"to":2},{"from":1}])") == "$[1].to: missing");
  CHECK(mismatch<range>("[]") == "$: wanted an object, got an array");
  CHECK(mismatch<range>(R"({"from":"1","to":2})") == "$.from: wanted a number, got a string");
  CHECK(mismatch<range>(R"({"from":-1,"to":2})") == "$.from: -1 is out of range");
  CHECK(mismatch<range>(R"({"from":1.5,"to":2})") == "$.from: 1.5 is no integer");
  CHECK(mismatch<std::pair<int, int>>("[1]") == "$: wanted 2 elements, got 1");
  CHECK(mismatch<as_string<int>>(R"("12x")") == "$: \"12x\" is no number of that kind");
  CHECK(mismatch<std::map<int, int>>(R"({"x":1})") == "$.x: the name is no number of that kind");
  CHECK(mismatch<weather>(R"({"outside":"cold"})") == "$.outside: no temperature");
  CHECK(read_json<weather>(json::parse(R"({"outside":3})")).outside.degrees == 3);
}

PLAIN_TEST("an integer beyond 2^53 is an error that names the member, in both directions") {
  const std::error_code overflow(EOVERFLOW, std::system_category());
  const std::string says = " is beyond 2^53, which JavaScript's numbers hold (see as_string)";
  CHECK(failure_of<range>(overflow, R"({"from":1,"to":9007199254740993})") == "$.to: 9007199254740993" + says);
  CHECK(failure_of<range>(overflow, R"({"from":1e17,"to":1})") == "$.from: 1e+17" + says);
  std::string text;
  try {
    write_json(message(job{range{1, std::numeric_limits<std::uint64_t>::max()}, {}, {}, {}, {}}));
  } catch (const std::system_error& error) {
    CHECK(error.code() == overflow);
    text = error.what();
  }
  CHECK(text.starts_with("$.work.to: 18446744073709551615" + says));
  CHECK(read_json<std::int64_t>(json::parse("9007199254740992.0")) == 9007199254740992);
}

PLAIN_TEST("an alternative of a variant is told by its tag") {
  CHECK(write_json(message(stop{})) == json::parse(R"({"type":"stop"})"));
  CHECK(read_json<message>(json::parse(R"({"type":"stop"})")).index() == 1);
  CHECK(read_json<message>(json::parse(R"({"type":"job","work":{"from":1,"to":2},"names":[],"weights":{},"id":"1"})"))
            .index() == 0);
  CHECK(mismatch<message>(R"({"type":"job","work":{"from":1}})") == "$.work.to: missing");
  CHECK(write_json(renamed(keyed{1, {}})) == json::parse(R"({"kind":"key","class":1,"time":0})"));
  CHECK(read_json<renamed>(json::parse(R"({"kind":"range","from":1,"to":2,"class":1,"time":0})")).index() == 0);
  CHECK(failure_of<renamed>(make_error_code(errc::unknown_message), R"({"kind":"what"})") == "$.kind: \"what\"");
}

PLAIN_TEST("an alternative without a tag is told by its shape: the one that has most of the members") {
  CHECK(read_json<message>(json("text")).index() == 3);
  CHECK(read_json<message>(json::parse(R"({"type":"anything","number":1})")).index() == 2);
  CHECK(write_json(message(typed{"t", 1})) == json::parse(R"({"type":"t","number":1})"));
  CHECK(read_json<message>(json::parse(R"({"work":{"from":1,"to":2},"names":[],"weights":{},"id":"1"})")).index() == 0);
  CHECK(read_json<shaped>(json::parse(R"({"class":1,"time":5})")).index() == 1);
  CHECK(mismatch<shaped>("[]") == "$: wanted one of the messages that are known, got an array");
  CHECK(read_json<open_message>(json::parse(R"({"type":"whatever"})")).index() == 1);
  CHECK(read_json<open_message>(json::parse(R"({"type":"stop"})")).index() == 0);
}

}  // namespace
}  // namespace cohort::test::json_codec_test
