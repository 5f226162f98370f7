// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/error.hpp"

#include <cerrno>
#include <set>
#include <string>
#include <system_error>

#include "../support/harness.hpp"

namespace cohort::test::error_test {

PLAIN_TEST("every errc has a text of its own") {
  std::set<std::string> texts;
  constexpr int last = static_cast<int>(errc::bad_proxy_header);
  for (int value = 1; value <= last; ++value) {
    CAPTURE(value);
    const auto text = make_error_code(static_cast<errc>(value)).message();
    CHECK(text != "unknown error");
    CHECK(texts.insert(text).second);
  }
  CHECK(std::error_code(last + 1, error_category()).message() == "unknown error");
}

PLAIN_TEST("an errc converts to an error_code of the category cohort, and is never success") {
  const std::error_code code = errc::timed_out;
  CHECK(code == errc::timed_out);
  CHECK(code != errc::closed);
  CHECK(std::string(code.category().name()) == "cohort");
  CHECK(static_cast<bool>(std::error_code(errc::peer_closed)));
}

PLAIN_TEST("a thrown errno names the step, the value and the reason") {
  try {
    throw_error("spawn: chdir \"/nope\"", ENOENT);
  } catch (const std::system_error& error) {
    CHECK(std::string(error.what()) == "spawn: chdir \"/nope\": No such file or directory");
    CHECK(error.code() == std::errc::no_such_file_or_directory);
    CHECK(error.code().category() == std::system_category());
  }
}

PLAIN_TEST("a thrown errc names the step and the reason") {
  try {
    throw_error("queue: push", errc::closed);
  } catch (const std::system_error& error) {
    CHECK(std::string(error.what()) == "queue: push: already closed on this side");
    CHECK(error.code() == errc::closed);
  }
}

PLAIN_TEST("a thrown error_code keeps its category") {
  const auto code = std::make_error_code(std::errc::broken_pipe);
  CHECK_THROWS_WITH_AS(throw_error("link: write", code), "link: write: Broken pipe", std::system_error);
}

}  // namespace cohort::test::error_test
