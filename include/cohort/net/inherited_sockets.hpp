// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../ipc/handle.hpp"

namespace cohort {

/// A descriptor that was open when this process was started.
struct inherited_socket {
  std::string name;  ///< what the socket unit calls it (FileDescriptorName=); "unknown" if nobody has said
  int number;        ///< its descriptor number at the start, from 3 on
  handle_kind kind;  ///< what the kernel says that it is
  descriptor socket;
};

/// The sockets that a service manager has opened for this process: socket activation, sd_listen_fds(3).
///
/// Whoever started the process has them too: what waits in the queue of such a listener outlives the process, and what
/// is done to the socket itself (shutdown, a filter) stays done. Those that are not taken out are closed with the
/// object.
///
/// Distinct objects: safe. Shared objects: unsafe.
class inherited_sockets {
 public:
  /// None.
  inherited_sockets() = default;

  /// Takes what LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES tell of, and removes the variables, so that a second call,
  /// and the children of this process, find none. The descriptors are close-on-exec from here on.
  ///
  /// None if a variable is missing, or LISTEN_PID is another process's. Throws errc::invalid_option that names the
  /// variable and its value if it is not what sd_listen_fds(3) says, and EBADF for a descriptor that is not open; the
  /// variables are gone then, too. Call it before other threads read the environment.
  static inherited_sockets from_environment() {
    const auto fds = take_variable("LISTEN_FDS");
    const auto pid = take_variable("LISTEN_PID");
    const auto names = take_variable("LISTEN_FDNAMES");
    ::unsetenv("LISTEN_PIDFDID");  // which newer managers set beside LISTEN_PID
    inherited_sockets result;
    if (!fds || !pid || number("LISTEN_PID", *pid, INT_MAX) != ::getpid()) return result;

    const int count = number("LISTEN_FDS", *fds, INT_MAX - first);
    const auto known = names ? split(*names) : std::vector<std::string>();
    if (names && known.size() != static_cast<std::size_t>(count)) {
      throw_error(fmt::format("inherited sockets: LISTEN_FDNAMES={} with LISTEN_FDS={}", *names, count),
                  errc::invalid_option);
    }
    // The number is only a claim: it is not reserved for before the descriptors have been seen.
    for (int fd = first; fd < first + count; ++fd) {
      if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) throw_error(fmt::format("inherited sockets: fd {}", fd), errno);
      const auto index = static_cast<std::size_t>(fd - first);
      result.sockets_.push_back({names ? known[index] : "unknown", fd, kind_of(fd), descriptor(fd)});
    }
    return result;
  }

  const std::vector<inherited_socket>& all() const noexcept { return sockets_; }

  /// Takes out those with this name, in their order; none if there are none.
  std::vector<inherited_socket> take(std::string_view name) {
    return take_if([&](const inherited_socket& each) { return each.name == name; });
  }

  /// Takes out the one that had this number; none if there is none.
  std::vector<inherited_socket> take(int number) {
    return take_if([&](const inherited_socket& each) { return each.number == number; });
  }

 private:
  static constexpr int first = 3;  // SD_LISTEN_FDS_START

  template <class Predicate>
  std::vector<inherited_socket> take_if(Predicate wanted) {
    std::vector<inherited_socket> taken, rest;
    for (auto& each : sockets_) (wanted(each) ? taken : rest).push_back(std::move(each));
    sockets_ = std::move(rest);
    return taken;
  }

  static std::optional<std::string> take_variable(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    std::optional<std::string> result(value);
    ::unsetenv(name);
    return result;
  }

  static int number(const char* variable, const std::string& text, int most) {
    int result = -1;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, result);
    if (parsed.ec != std::errc() || parsed.ptr != end || result < 0 || result > most) {
      throw_error(fmt::format("inherited sockets: {}={}", variable, text), errc::invalid_option);
    }
    return result;
  }

  static std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> result;
    while (!text.empty() || !result.empty()) {
      const auto colon = text.find(':');
      result.emplace_back(text.substr(0, colon));
      if (colon == text.npos) break;
      text.remove_prefix(colon + 1);
    }
    return result;
  }

  std::vector<inherited_socket> sockets_;
};

}  // namespace cohort
