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

namespace detail {

/// `unix:` sockets know no SO_REUSEPORT, and nobody accepts from a UDP socket.
distribution distribution_for(handle_kind kind, distribution wanted) noexcept;

std::string address_of(int fd, handle_kind kind);

listen_settings settings_for(distribution how, const cluster_options& options);

/// A TCP listener, or a UDP socket: for distribution::reuse_port as many as there are workers.
template <class Endpoint>
opened_listener listen_at(Endpoint endpoint, const std::string& text, distribution how, const cluster_options& options) {
  const auto open = [](Endpoint& at, const listen_settings& settings) {
    if constexpr (std::is_same_v<Endpoint, asio::ip::udp::endpoint>) {
      return open_datagram_socket(at, settings);
    } else {
      return open_listener(at, settings);
    }
  };
  opened_listener result;
  result.text = text;
  result.distribution = how;
  const listen_settings settings = settings_for(how, options);
  if (settings.reuse_port && endpoint.port() != 0) check_unused(endpoint);
  do {
    result.sockets.push_back(open(endpoint, settings));
  } while (settings.reuse_port && result.sockets.size() < options.worker_count());
  result.address = cohort::to_string(endpoint);
  if (settings.reuse_port) {
    result.open_one_more = [open, endpoint, settings]() mutable { return open(endpoint, settings); };
  }
  return result;
}

asio::ip::udp::endpoint parse_udp_endpoint(const std::string& text);

opened_listener listen_local(const std::string& text, distribution how, const cluster_options& options);

/// The sockets that `fd:NAME` or `fd:NUMBER` means.
std::vector<inherited_socket> find_inherited(const std::string& text, inherited_sockets& inherited,
                                                    const std::vector<opened_listener>& others);

std::vector<opened_listener> listen_inherited(const std::string& text, distribution wanted,
                                               const cluster_options& options, inherited_sockets& inherited,
                                               const std::vector<opened_listener>& others);

/// What a predecessor has handed over for an address of the options; for `fd:` perhaps several.
std::vector<opened_listener> take_over(const listen_address& wanted, const cluster_options& options,
                                        std::vector<upgrade::listener>& handed);

}  // namespace detail

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
