// SPDX-License-Identifier: BSL-1.0
/// What is said over the control socket of a cluster: see control_server and control_client.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../../core/asio.hpp"
#include "../../core/error.hpp"
#include "../../ipc/channel.hpp"
#include "../../ipc/codec/codec.hpp"
#include "../../process/exit_status.hpp"
#include "../../schedule/schedule.hpp"
#include "../events.hpp"
#include "../reload.hpp"
#include "../stats.hpp"
#include "../upgrade/result.hpp"

namespace cohort {

/// With its usage.
template <>
struct codec<exit_status> {
  static void encode(writer& out, const exit_status& status) {
    std::int32_t how = CLD_EXITED;
    if (status.signal()) how = status.core_dumped() ? CLD_DUMPED : CLD_KILLED;
    if (!status.signal() && !status.code()) how = 0;
    codec<std::int32_t>::encode(out, how);
    codec<std::int32_t>::encode(out, status.code().value_or(status.signal().value_or(0)));
    codec<resource_usage>::encode(out, status.usage());
  }

  static void decode(reader& in, exit_status& status) {
    std::int32_t how = 0, value = 0;
    resource_usage used;
    codec<std::int32_t>::decode(in, how);
    codec<std::int32_t>::decode(in, value);
    codec<resource_usage>::decode(in, used);
    const auto time = [](std::chrono::microseconds whole) {
      timeval result{};
      result.tv_sec = static_cast<time_t>(whole.count() / 1'000'000);
      result.tv_usec = static_cast<suseconds_t>(whole.count() % 1'000'000);
      return result;
    };
    siginfo_t info{};
    rusage usage{};
    info.si_code = how;
    info.si_status = value;
    usage.ru_utime = time(used.user_time);
    usage.ru_stime = time(used.system_time);
    usage.ru_maxrss = static_cast<decltype(usage.ru_maxrss)>(used.max_rss / 1024);
    status = how == 0 ? exit_status() : exit_status(info, usage, used.wall_time);
  }

  static constexpr std::uint64_t shape() { return custom_shape("CLD_, status: i32; resource_usage"); }
  static constexpr std::size_t fixed_size = 8 + codec<resource_usage>::fixed_size;
};

namespace control_protocol {

// What a client asks, each by channel::call, and what it is answered with.

struct get_stats {};  ///< cluster_stats
struct reload {};     ///< reload_result, when it is over
struct upgrade {};    ///< upgrade_result, when it is over; the channel ends if it has succeeded
/// The number of workers that there are to be; answered with outcome.
struct scale {
  std::uint32_t workers = 0;
};
struct stop {};  ///< outcome, when the stop has begun; the channel ends when it is over
/// Kills the worker of a slot; answered with outcome.
struct kill_worker {
  std::uint32_t slot = 0;
};
struct follow {};  ///< `happened` for each event from now on, as progress; outcome when the cluster has ended

/// The first word to a client that is served.
struct welcome {
  pid_t pid = 0;  ///< the primary
};

/// The only word to one that is not.
struct refused {
  std::string reason;
};

/// Whether what a client has asked for was done.
struct outcome {
  std::string reason;  ///< why it was not done; empty if it was

  bool success() const noexcept { return reason.empty(); }
};

/// A cluster_event on its way.
struct happened {
  cluster_event::kind what{};
  unsigned slot = 0;
  pid_t pid = 0;
  std::string text;
  std::chrono::microseconds after{0};
  exit_status status;
  exit_reason reason = exit_reason::none;
  std::string agent;
  std::string schedule;  ///< of cluster_event::kind::schedule_ran, with `text`: why it has failed, empty if it has not
  std::uint32_t attempt = 1;

  cluster_event event() const;
};

/// Of one version of the library: what the other side does not know it refuses by name (see schema).
struct protocol {
  using to_primary = std::variant<get_stats, reload, upgrade, scale, stop, kill_worker, follow>;
  using to_client = std::variant<welcome, refused, outcome, cluster_stats, reload_result, upgrade_result, happened>;
};

using client_channel = channel<protocol::to_primary, protocol::to_client>;
using server_channel = channel<protocol::to_client, protocol::to_primary>;

/// Where this is: a path, from the working directory on if it is relative, or `@name` for an abstract name. Throws
/// ENAMETOOLONG with `step` and the path for more than 107 bytes (unix(7)).
asio::local::stream_protocol::endpoint endpoint_of(std::string_view step, const std::string& path);

}  // namespace control_protocol
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "protocol.ipp"
#endif
