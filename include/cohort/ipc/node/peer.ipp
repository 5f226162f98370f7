// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "peer.hpp"

#include "../../core/config.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <sys/socket.h>

#include "../../core/error.hpp"
#include "../channel_pair.hpp"

namespace cohort {
namespace detail {

COHORT_INLINE asio::awaitable<std::pair<child, descriptor>> spawn_with_node_channel(
    command what, node_serialization mode, std::optional<std::string> unique_id) {
  auto ends = make_channel_pair();
  int number = 3;
  while (what.has_fd(number)) ++number;
  what.env(node_channel_variable, std::to_string(number));
  what.env(node_mode_variable, std::string(to_string(mode)));
  if (unique_id) {
    what.env(node_id_variable, *unique_id);
  } else {
    what.unset_env(node_id_variable);
  }
  what.fd(number, stdio::borrow(ends.second.get()));
  child process = co_await spawn(std::move(what));
  ends.second.reset();  // the child has its own: when it ends, the channel does
  co_return std::pair<child, descriptor>(std::move(process), std::move(ends.first));
}

COHORT_INLINE void end_with(child& process, const node_link& channel) {
  if (!channel.connection()) return;
  on_end(process, [weak = std::weak_ptr<node_connection>(channel.connection())] {
    if (const auto open = weak.lock()) open->end();
  });
}

COHORT_INLINE node_parent_end take_node_parent() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const auto value = variable(node_channel_variable);
  const auto named = [&value](const char* is) {
    throw_error(std::string("parent: ") + node_channel_variable + (value.empty() ? "" : "=" + value) + is,
                errc::no_parent);
  };
  if (value.empty()) named(" is not set");
  int fd = -1;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), fd);  // as parseInt() does
  if (parsed.ec != std::errc() || fd < 0 || kind_of(fd) != handle_kind::local_socket) named(" is no channel");
  const auto mode = variable(node_mode_variable);
  if (!mode.empty() && mode != "json" && mode != "advanced") {
    throw_error(std::string("parent: ") + node_mode_variable + "=" + mode, errc::invalid_option);
  }
  node_parent_end result;
  result.mode = mode == "advanced" ? node_serialization::advanced : node_serialization::json_lines;
  result.unique_id = variable(node_id_variable);
  for (const char* name : {node_channel_variable, node_mode_variable, node_id_variable}) ::unsetenv(name);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  result.socket.reset(fd);
  return result;
}

}  // namespace detail

COHORT_INLINE bool has_node_parent() noexcept {
  const char* const value = std::getenv(detail::node_channel_variable);
  return value != nullptr && *value != '\0';
}

}  // namespace cohort
