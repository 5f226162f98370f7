// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/node/serialization/v8.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/ipc/node/options.hpp"
#include "../../include/cohort/ipc/node/serialization/json_text.hpp"
#include "../../include/cohort/ipc/node/transport/framer.hpp"
#include "../support/harness.hpp"

namespace cohort::test::serialization_test {
namespace {

using namespace detail;
using namespace std::string_literals;

std::string bytes(std::string_view hex) {
  std::string result;
  for (std::size_t at = 0; at + 1 < hex.size(); at += hex[at] == ' ' ? 1 : 2) {
    if (hex[at] != ' ') result.push_back(static_cast<char>(std::stoi(std::string(hex.substr(at, 2)), nullptr, 16)));
  }
  return result;
}

std::string v8(const json& value) {
  std::string result;
  to_v8(result, value);
  return result;
}

std::string text_of_failure(const std::function<void()>& function, std::error_code code) {
  try {
    function();
  } catch (const std::system_error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "";
}

bool is_refused(std::string_view hex) {
  return !text_of_failure([&] { from_v8(bytes(hex)); }, make_error_code(errc::malformed)).empty();
}

PLAIN_TEST("an acknowledgement in V8's format is what Node writes, but for the version") {
  json message = json::object();
  message["cmd"] = "NODE_HANDLE_ACK";
  node_options options;
  options.serialization = node_serialization::advanced;
  CHECK(to_node_frame(message, options) ==
        bytes("0000001b ff0d 6f 2203636d64 220f4e4f44455f48414e444c455f41434b 7b01"));
}

PLAIN_TEST("values survive V8's format") {
  for (const char* text : {"null", "true", "false", "0", "-1", "2147483647", "-2147483648", "2147483648", "1.5", "\"\"",
                           "\"text\"", R"("\u00e9")", R"("\u20ac and more")", R"({"a":"\ud83d\ude00","b":[]})",
                           "[[1],[2,[3]],{}]", R"({"\u20ac":1,"":2})", "9007199254740993", "-9223372036854775808",
                           "18446744073709551615", "1e300"}) {
    const json value = json::parse(text);
    CHECK(from_v8(v8(value)) == value);
  }
  const json buffer = json::binary({1, 2, 255});
  CHECK(from_v8(v8(buffer)).get_binary() == json::binary_t({1, 2, 255}, 10));
}

PLAIN_TEST("what Node 20 writes is read") {
  CHECK(from_v8(bytes("ff0f 6f 2201 61 49 02 2201 62 5f 7b02")) == json::parse(R"({"a":1})"));  // b is undefined
  CHECK(from_v8(bytes("ff0f 41 03 4902 2d 5f 2400 03")) == json::parse("[1,null,null]"));
  CHECK(from_v8(bytes("ff0f 61 04 4904 220178 4001 04")) == json::parse(R"([null,null,"x",null])"));
  CHECK(from_v8(bytes("ff0f 00 63 04 ac20 4100")) == json("\xe2\x82\xac" "A"));         // padded
  CHECK(from_v8(bytes("ff0d 53 02 c3a9")) == json("\xc3\xa9"));
  CHECK(from_v8(bytes("ff0f 5a 10 00e40b5402000000")) == json(10000000000));
  CHECK(from_v8(bytes("ff0f 44 0000000000000000")) == json("1970-01-01T00:00:00.000Z"));
  CHECK(from_v8(bytes("ff0f 44 0000dcc208b23e43")) == json("+275760-09-13T00:00:00.000Z"));
  CHECK(from_v8(bytes("ff0f 3b 220161 4902 3a 02")) == json::parse(R"([["a",1]])"));
  CHECK(from_v8(bytes("ff0f 27 4902 4904 2c 02")) == json::parse("[1,2]"));
  CHECK(from_v8(bytes("ff0f 41 02 6f 220178 4902 7b01 5e01 2400 02")) == json::parse(R"([{"x":1},{"x":1}])"));
  CHECK(from_v8(bytes("ff0f 5c 00 0a 02 0102")).get_binary() == json::binary_t({1, 2}, 10));
  CHECK(from_v8(bytes("ff0f 5c 01 6f 7b00")) == json::object());
  CHECK(from_v8(bytes("ff0f 73 220161")) == json("a"));
}

PLAIN_TEST("what is no message in V8's format is refused by name") {
  for (const char* hex : {"",
                          "ff",
                          "ff0f",
                          "ff10 30",
                          "ff0c 30",
                          "000f 30",
                          "ff0f 6f",
                          "ff0f 6f 220161 4902 7b02",
                          "ff0f 41 ffffffff0f",
                          "ff0f 22 05 6162",
                          "ff0f 63 03 616263",
                          "ff0f 5e 00",
                          "ff0f 52 220161 00",
                          "ff0f 72 2e",
                          "ff0f 30 30",
                          "ff0f 6f 220161 5e00 7b01",
                          "ff0f 61 ffffffff0f 4000 ffffffff0f",
                          "ff0f 5a 12 000000000000000001",
                          "ff0f 5c 00 0d 00",
                          "ff0f 49 ffffffffffffffffffffff",
                          "ff0f 6f 6f 7b00 4902 7b01"}) {
    CAPTURE(hex);
    CHECK(is_refused(hex));
  }
  CHECK(text_of_failure([] { from_v8("\xff\x0fR"); }, make_error_code(errc::malformed)) ==
        "receive: v8: a value of kind 82, which has no meaning here at byte 2: malformed data from the peer");
}

PLAIN_TEST("references that double with each level end at a limit, and so does depth") {
  std::string bomb = bytes("ff0f");
  const int levels = 60;
  for (int level = 0; level < levels; ++level) bomb += "A\x02"s;
  bomb += "A\0$\0\0"s;
  for (int level = levels; level > 0; --level) bomb += "^" + std::string(1, static_cast<char>(level)) + "$\0\x02"s;
  const auto text = text_of_failure([&] { from_v8(bomb); }, make_error_code(errc::malformed));
  CHECK(text.find("more references") != text.npos);

  std::string deep = bytes("ff0f");
  for (int level = 0; level < 100'000; ++level) deep += "A\x01"s;
  CHECK(text_of_failure([&] { from_v8(deep); }, make_error_code(errc::malformed)).find("levels") != text.npos);
}

PLAIN_TEST("a line of JSON is read as Node reads it") {
  CHECK(from_json_line(" {\"a\" : 1}\r") == json::parse(R"({"a":1})"));
  CHECK(from_json_line("\"a\\ud800b\\ud83d\\ude00\\udc00\"") == json("a\xef\xbf\xbd" "b\xf0\x9f\x98\x80\xef\xbf\xbd"));
  CHECK(from_json_line("\"\\\\ud800\"") == json("\\ud800"));
  CHECK(from_json_line("\"a\xff\xe2\x82z\"") == json("a\xef\xbf\xbd\xef\xbf\xbdz"));
  const auto malformed = make_error_code(errc::malformed);
  for (const char* text : {"", " ", "{", "nothing", "{}{}", "1e999", "\"\t\""}) {
    CAPTURE(text);
    CHECK_FALSE(text_of_failure([&] { from_json_line(text); }, malformed).empty());
  }
  const std::string deep(1001, '[');
  CHECK(text_of_failure([&] { from_json_line(deep); }, malformed) ==
        "receive: JSON of more than 1000 levels: malformed data from the peer");
}

PLAIN_TEST("a value that would kill a Node peer is not written") {
  json deep = json::array();
  for (int level = 0; level < 1000; ++level) deep = json::array({std::move(deep)});
  const std::error_code invalid(EINVAL, std::system_category());
  CHECK_FALSE(text_of_failure([&] { to_json_line(deep); }, invalid).empty());
  CHECK_FALSE(text_of_failure([&] { v8(deep); }, invalid).empty());
  CHECK_FALSE(text_of_failure([] { to_json_line(json(json::value_t::discarded)); }, invalid).empty());
  CHECK_FALSE(text_of_failure([] { to_json_line(json::binary({1})); }, invalid).empty());
  CHECK_FALSE(text_of_failure([] { v8(json::binary({1}, 99)); }, invalid).empty());
  CHECK(to_json_line("a\nb\xff") == "\"a\\nb\xef\xbf\xbd\"\n");
  CHECK(to_json_line(std::numeric_limits<double>::quiet_NaN()) == "null\n");
}

PLAIN_TEST("messages are found whatever the pieces are that they come in") {
  for (const auto mode : {node_serialization::json_lines, node_serialization::advanced}) {
    node_options options;
    options.serialization = mode;
    options.max_message = 4096;
    std::string all;
    for (int index = 0; index < 50; ++index) {
      const json value = std::string(static_cast<std::size_t>(index * 7), 'x');
      all += to_node_frame(value, options);
    }
    for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{1000}, all.size()}) {
      node_framer framer(options);
      int count = 0;
      for (std::size_t at = 0; at < all.size(); at += piece) {
        const std::size_t size = std::min(piece, all.size() - at);
        std::copy_n(all.data() + at, size, framer.prepare(size).data());
        framer.commit(size);
        while (const auto frame = framer.next()) {
          CHECK(framer.decode(*frame) == json(std::string(static_cast<std::size_t>(count * 7), 'x')));
          ++count;
        }
      }
      CHECK(count == 50);
      CHECK_FALSE(framer.has_begun());
    }
  }
}

}  // namespace
}  // namespace cohort::test::serialization_test
