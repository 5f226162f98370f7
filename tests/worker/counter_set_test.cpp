// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/worker/detail/counter_set.hpp"

#include <string>
#include <system_error>

#include "../../include/cohort/core/error.hpp"
#include "../support/harness.hpp"

namespace cohort::test::counter_set_test {
namespace {

/// What is said against a name.
std::string refusal(detail::counter_set& of, const std::string& name) {
  try {
    of.named(name);
  } catch (const std::system_error& error) {
    CHECK(error.code() == errc::invalid_option);
    return error.what();
  }
  return {};
}

PLAIN_TEST("counters have names of letters, digits and _") {
  detail::counter_set all;
  for (const std::string good : {"a", "_", "Z9", "bytes_out", "__x"}) CHECK(refusal(all, good).empty());
  CHECK(refusal(all, std::string(64, 'x')).empty());
  for (const std::string bad : {"", "9", "a-b", "a b", "a\n", "\xc3\xa4", "a{"}) CHECK_FALSE(refusal(all, bad).empty());
  CHECK(refusal(all, std::string(65, 'x')).find("at most 64 bytes") != std::string::npos);
  CHECK(refusal(all, "a\nb").starts_with("counter \"a?b\": want letters"));
  CHECK(refusal(all, std::string("a\0b", 3)).starts_with("counter \"a?b\""));
}

PLAIN_TEST("there are 64 counters at most, and those that there are stay where they are") {
  detail::counter_set all;
  counter& first = all.named("n0");
  for (int i = 0; i < 64; ++i) all.named("n" + std::to_string(i)).add(1);
  CHECK(refusal(all, "one_more").starts_with("counter \"one_more\": there are 64 already"));
  CHECK(&all.named("n0") == &first);
  CHECK(first.value() == 1);
}

PLAIN_TEST("what could not be said is said again") {
  detail::counter_set all;
  all.named("a").add(3);
  std::string said;
  const auto say = [&](bool heard) {
    said.clear();
    all.say_changes([&](const std::string& name, std::uint64_t value) {
      said += name + std::to_string(value);
      return heard;
    });
    return said;
  };
  CHECK(say(false) == "a3");
  CHECK(say(true) == "a3");
  CHECK(say(true) == "");
}

}  // namespace
}  // namespace cohort::test::counter_set_test
