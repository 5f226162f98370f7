// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "../core/config.hpp"

#if FMT_VERSION < 90000
#error "cohort needs fmt 9 or later: <fmt/format.h> on the include path is older"
#include "the compilation ends here because of the error above"
#endif

namespace cohort {

/// What a child has used, together with those of its own children that it has waited for (getrusage(2)).
struct resource_usage {
  std::chrono::microseconds user_time{0};
  std::chrono::microseconds system_time{0};

  /// From the call of spawn until the child was reaped, which is later than its end if nobody waited for it then.
  std::chrono::microseconds wall_time{0};

  /// The most memory it has had resident, in bytes. Linux counts what a process shared with its parent until it
  /// executed its program, so that this is never less than what the parent had resident when it called spawn.
  std::size_t max_rss = 0;
};

/// How a child has ended: it has exited with a code, or a signal has killed it.
///
/// Default-constructed it stands for neither. A plain value: reading it from several threads is safe.
class exit_status {
 public:
  exit_status() = default;

  /// Reads what waitid(2) with WEXITED has filled in.
  exit_status(const siginfo_t& info, const rusage& usage, std::chrono::microseconds wall_time = {}) noexcept
      : ending_(info.si_code == CLD_EXITED ? ending::exited : ending::killed),
        core_dumped_(info.si_code == CLD_DUMPED),
        value_(info.si_status),
        usage_{duration(usage.ru_utime), duration(usage.ru_stime), wall_time,
               static_cast<std::size_t>(usage.ru_maxrss) * 1024} {}

  static exit_status exited(int code) noexcept { return exit_status(ending::exited, code); }
  static exit_status killed(int signal) noexcept { return exit_status(ending::killed, signal); }

  /// Whether it has exited with 0.
  bool success() const noexcept { return ending_ == ending::exited && value_ == 0; }

  /// What it has exited with, 0 to 255; empty if a signal has killed it.
  std::optional<int> code() const noexcept { return value_if(ending::exited); }

  /// The number of the signal that has killed it; empty if it has exited.
  std::optional<int> signal() const noexcept { return value_if(ending::killed); }

  /// Whether the signal has made it write a core file.
  bool core_dumped() const noexcept { return core_dumped_; }

  const resource_usage& usage() const noexcept { return usage_; }

  /// Whether both have ended in the same way, whatever they have used.
  friend bool operator==(const exit_status& a, const exit_status& b) noexcept {
    return a.ending_ == b.ending_ && a.value_ == b.value_ && a.core_dumped_ == b.core_dumped_;
  }

 private:
  enum class ending : unsigned char { none, exited, killed };

  exit_status(ending kind, int value) noexcept : ending_(kind), value_(value) {}

  std::optional<int> value_if(ending kind) const noexcept {
    return ending_ == kind ? std::optional<int>(value_) : std::nullopt;
  }

  static std::chrono::microseconds duration(const timeval& time) noexcept {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  }

  ending ending_ = ending::none;
  bool core_dumped_ = false;
  int value_ = 0;
  resource_usage usage_;
};

namespace detail {

/// `SIGKILL (9)`, or `signal 40` for one that has no name.
template <class Output>
Output format_signal(Output out, int signal) {
  const char* name = ::sigabbrev_np(signal);
  if (name == nullptr) return fmt::format_to(out, "signal {}", signal);
  return fmt::format_to(out, "SIG{} ({})", name, signal);
}

}  // namespace detail
}  // namespace cohort

/// `exited with 3`, `killed by SIGKILL (9)`, `killed by SIGSEGV (11), core dumped`; `not ended` for a default one.
template <>
struct fmt::formatter<cohort::exit_status> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const cohort::exit_status& status, Context& context) const {
    fmt::memory_buffer text;
    const auto out = std::back_inserter(text);
    if (const auto code = status.code()) {
      fmt::format_to(out, "exited with {}", *code);
    } else if (const auto signal = status.signal()) {
      fmt::format_to(out, "killed by ");
      cohort::detail::format_signal(out, *signal);
      if (status.core_dumped()) fmt::format_to(out, ", core dumped");
    } else {
      fmt::format_to(out, "not ended");
    }
    return fmt::formatter<std::string_view>::format(std::string_view(text.data(), text.size()), context);
  }
};
