// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace cohort::test {

/// The argv of main.
inline char** main_arguments = nullptr;

/// One thing that the helper can do as a child process. A file of verbs needs nothing but to be linked:
///
///     const verb exit_code("exit-code", [](const verb::arguments& arguments) { return std::stoi(arguments.at(0)); });
///
/// What the function returns is the exit status. An exception is printed, and the status is then 70.
class verb {
 public:
  using arguments = std::vector<std::string>;
  using function = int (*)(const arguments&);

  verb(const char* name, function body) : name_(name), run_(body), next_(std::exchange(head(), this)) {}
  verb(const verb&) = delete;

  const char* name() const noexcept { return name_; }
  int run(const arguments& given) const { return run_(given); }
  const verb* next() const noexcept { return next_; }

  static const verb* first() noexcept { return head(); }

 private:
  static const verb*& head() noexcept {
    static const verb* head = nullptr;
    return head;
  }

  const char* name_;
  function run_;
  const verb* next_;
};

}  // namespace cohort::test
