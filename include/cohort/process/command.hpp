// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstddef>
#include <map>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "stdio.hpp"

namespace cohort {
namespace detail {

template <class T>
concept string_like = !std::same_as<T, std::nullptr_t> &&
                      (std::convertible_to<const T&, std::string_view> || std::convertible_to<const T&, std::string>);

template <class T>
concept string_range =
    std::ranges::input_range<T> && string_like<std::remove_cvref_t<std::ranges::range_reference_t<T>>>;

template <string_like T>
std::string to_string(const T& text) {
  if constexpr (std::convertible_to<const T&, std::string_view>) {
    return std::string(static_cast<std::string_view>(text));
  } else {
    return text;
  }
}

}  // namespace detail

/// The process group that a child belongs to, which is what a terminal sends Ctrl-C and Ctrl-Z to.
enum class process_group {
  own,      ///< one of its own: Ctrl-C reaches the parent alone, which decides what becomes of the child
  inherit,  ///< the parent's: for a child that talks to the user's terminal
};

/// A program and all that it is to be started with.
///
///     cohort::command list("ls", "-l");
///     list.cwd("/usr").out(cohort::stdio::pipe);
///
/// Setting anything never fails. spawn() says which value cannot be served: errc::invalid_option for an empty program,
/// a string with a NUL inside, a variable's name that is empty or holds '=', a negative descriptor number.
///
/// Copyable: the same command can be started any number of times. Strings may be anything that converts to std::string
/// or std::string_view. Distinct objects: safe. Shared objects: unsafe.
class command {
 public:
  /// A program without a slash is searched in the PATH that the child gets ("/bin:/usr/bin" if it gets none). Other
  /// relative paths start at the child's directory, see cwd().
  template <detail::string_like Program, detail::string_like... Arguments>
  explicit command(const Program& program, const Arguments&... arguments)
      : program_(detail::to_string(program)), arguments_{detail::to_string(arguments)...} {}

  const std::string& program() const noexcept { return program_; }

  template <detail::string_like T>
  command& arg(const T& argument) {
    arguments_.push_back(detail::to_string(argument));
    return *this;
  }

  template <detail::string_range Range>
  command& args(Range&& arguments) {
    for (const auto& argument : arguments) arg(argument);
    return *this;
  }

  /// What the program sees as its own name; the program as it was given, if not set.
  template <detail::string_like T>
  command& argv0(const T& name) {
    argv0_ = detail::to_string(name);
    return *this;
  }

  /// The directory that the child starts in; the parent's, if not set.
  template <detail::string_like T>
  command& cwd(const T& directory) {
    cwd_ = detail::to_string(directory);
    return *this;
  }

  /// Sets a variable on top of the parent's environment, which is read at each spawn.
  template <detail::string_like Name, detail::string_like Value>
  command& env(const Name& name, const Value& value) {
    environment_.insert_or_assign(detail::to_string(name), detail::to_string(value));
    return *this;
  }

  /// Takes a variable of the parent away from the child.
  template <detail::string_like T>
  command& unset_env(const T& name) {
    environment_.insert_or_assign(detail::to_string(name), std::nullopt);
    return *this;
  }

  /// Starts from an empty environment: the child sees only what env() sets after this.
  command& clear_env() {
    environment_.clear();
    inherit_environment_ = false;
    return *this;
  }

  /// What the child reads from, writes to and complains to; all three are inherited, if not set.
  command& in(stdio source) { return fd(0, std::move(source)); }
  command& out(stdio target) { return fd(1, std::move(target)); }
  command& err(stdio target) { return fd(2, std::move(target)); }

  /// What any descriptor of the child is. It has 0, 1, 2 and those that are set here, whatever the parent holds open.
  command& fd(int number, stdio what) {
    descriptors_.insert_or_assign(number, std::move(what));
    return *this;
  }

  /// Whether fd(), in(), out() or err() has set this number.
  bool has_fd(int number) const { return descriptors_.contains(number); }

  /// `process_group::own`, if not set.
  command& process_group(cohort::process_group group) {
    group_ = group;
    return *this;
  }

  /// Has the kernel kill the child (SIGKILL) when the parent dies; on, if not set.
  ///
  /// To the kernel the parent is the THREAD that called spawn: when that thread ends, the child is killed too, even if
  /// the process lives on. Turn it off where threads that spawn come and go. Programs that are set-user-ID,
  /// set-group-ID or have capabilities are not killed (PR_SET_PDEATHSIG(2const)).
  command& die_with_parent(bool on) {
    die_with_parent_ = on;
    return *this;
  }

 private:
  friend class detail::launch;

  std::string program_;
  std::vector<std::string> arguments_;
  std::optional<std::string> argv0_;
  std::optional<std::string> cwd_;
  std::map<std::string, std::optional<std::string>> environment_;  // nullopt: taken away
  std::map<int, stdio> descriptors_;
  cohort::process_group group_ = cohort::process_group::own;
  bool inherit_environment_ = true;
  bool die_with_parent_ = true;
};

}  // namespace cohort
