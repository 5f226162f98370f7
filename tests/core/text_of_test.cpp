// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/core/text_of.hpp"

#include <stdexcept>
#include <string>

#include "../support/harness.hpp"

namespace cohort::test::text_of_test {
namespace {

PLAIN_TEST("an exception is what it says, or that it says nothing") {
  CHECK(detail::text_of(std::make_exception_ptr(std::runtime_error("so"))) == "so");
  CHECK(detail::text_of(std::make_exception_ptr(42)) == "an exception that is no std::exception");
}

PLAIN_TEST("what others have written is one line of a log, and no longer than that") {
  CHECK(detail::one_line("as it is: ä €") == "as it is: ä €");
  CHECK(detail::one_line("two\nlines\r\033[2J\x7f\t") == "two?lines??[2J??");
  CHECK(detail::one_line(std::string("a\0b", 3)) == "a?b");
  CHECK(detail::one_line(std::string(256, 'x')) == std::string(256, 'x'));
  CHECK(detail::one_line(std::string(1'000'000, 'x')) == std::string(256, 'x') + "...");
  // not in the middle of a character
  CHECK(detail::one_line(std::string(255, 'x') + "€€") == std::string(255, 'x') + "...");
  CHECK(detail::one_line(std::string(253, 'x') + "€€") == std::string(253, 'x') + "€...");
}

}  // namespace
}  // namespace cohort::test::text_of_test
