// SPDX-License-Identifier: BSL-1.0
/// The sockets that a service manager has opened for this process. Whoever serves them owns the object; it uses no
/// executor.
#pragma once

#include <climits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

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
  static inherited_sockets from_environment();

  const std::vector<inherited_socket>& all() const noexcept { return sockets_; }

  /// Takes out those with this name, in their order; none if there are none.
  std::vector<inherited_socket> take(std::string_view name);

  /// Takes out the one that had this number; none if there is none.
  std::vector<inherited_socket> take(int number);

 private:
  static constexpr int first = 3;  // SD_LISTEN_FDS_START

  template <class Predicate>
  std::vector<inherited_socket> take_if(Predicate wanted) {
    std::vector<inherited_socket> taken, rest;
    for (auto& each : sockets_) (wanted(each) ? taken : rest).push_back(std::move(each));
    sockets_ = std::move(rest);
    return taken;
  }

  static std::optional<std::string> take_variable(const char* name);

  static int number(const char* variable, const std::string& text, int most);

  static std::vector<std::string> split(std::string_view text);

  std::vector<inherited_socket> sockets_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "inherited_sockets.ipp"
#endif
