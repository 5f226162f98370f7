// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../ipc/handle.hpp"
#include "../../net/endpoint.hpp"
#include "../../net/inherited_sockets.hpp"
#include "../../net/unix_listener.hpp"
#include "../options.hpp"
#include "../upgrade/protocol.hpp"

namespace cohort {

/// One listener of a cluster: what an entry of cluster_options::listen has become.
struct opened_listener {
  std::string text;                 ///< as the options name it
  std::string address;              ///< with the port that was chosen: `127.0.0.1:8000`, `unix:/run/app.sock`
  std::vector<descriptor> sockets;  ///< one; for distribution::reuse_port one a worker, or more
  cohort::distribution distribution = cohort::distribution::round_robin;
  std::function<descriptor()> open_one_more;  ///< a further one for distribution::reuse_port, if that is possible
  bool inherited = false;                     ///< somebody else has it too, and accepts there when the cluster does not
  socket_file file;
  std::string handed_file;  ///< the path of a predecessor's, which is not this process's yet
};

/// Opens all that the options want to listen on. Throws `listen 127.0.0.1:8000: Address already in use` and its like;
/// then nothing stays open, and inherited sockets are closed here.
///
/// If an address begins with `fd:`, what the environment tells of inherited sockets is taken (see
/// inherited_sockets::from_environment), and one that no address names is an error: its clients would wait for ever.
///
/// What a predecessor has `handed` over is used instead of opening it anew.
std::vector<opened_listener> open_listeners(const cluster_options& options,
                                            std::vector<upgrade::listener> handed = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "open_listeners.ipp"
#endif
