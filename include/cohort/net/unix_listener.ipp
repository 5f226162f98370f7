// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "unix_listener.hpp"

#include "../core/config.hpp"

#include <cerrno>
#include <chrono>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../core/system.hpp"
#include "../process/detail/credentials.hpp"

namespace cohort {

COHORT_INLINE std::string to_string(const asio::local::stream_protocol::endpoint& endpoint) {
  std::string name = endpoint.path();
  if (!name.empty() && name.front() == '\0') name.front() = '@';
  return "unix:" + name;
}

COHORT_INLINE asio::local::stream_protocol::endpoint parse_unix_endpoint(const std::string& text) {
  constexpr std::string_view prefix = "unix:";
  std::string name = text.starts_with(prefix) ? text.substr(prefix.size()) : std::string();
  const bool good = name.size() > 1 && (name.front() == '/' || name.front() == '@') &&
                    name.size() < sizeof(sockaddr_un::sun_path) && name.find('\0') == name.npos;
  if (!good) throw_error(fmt::format("listen {}: want unix:/PATH or unix:@NAME", text), errc::invalid_option);
  if (name.front() == '@') name.front() = '\0';
  return {name};
}

COHORT_INLINE socket_file::socket_file(std::string path) : path_(std::move(path)), maker_(::getpid()) {
  if (::lstat(path_.c_str(), &made_) != 0) path_.clear();
}

COHORT_INLINE socket_file& socket_file::operator=(socket_file&& other) noexcept {
  if (this != &other) {
    remove();
    path_ = std::exchange(other.path_, {});
    made_ = other.made_;
    maker_ = other.maker_;
  }
  return *this;
}

COHORT_INLINE bool socket_file::is_there() const noexcept {
  struct stat found = {};
  if (path_.empty() || ::lstat(path_.c_str(), &found) != 0) return false;
  return found.st_dev == made_.st_dev && found.st_ino == made_.st_ino;
}

COHORT_INLINE void socket_file::remove() noexcept {
  if (maker_ == ::getpid() && is_there()) ::unlink(path_.c_str());
  path_.clear();
}

namespace detail {

COHORT_INLINE bool is_stale(const asio::local::stream_protocol::endpoint& endpoint) {
  // Two looks: a server that starts in this moment has bound the name already, and listens only a little later.
  for (int look = 0; look < 2; ++look) {
    if (look > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const descriptor probe(system::call.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return false;
    if (::connect(probe.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) == 0) return false;
    if (errno != ECONNREFUSED) return false;  // EAGAIN: somebody listens, and has much to do
  }
  return true;
}

COHORT_INLINE bool remove_stale(const asio::local::stream_protocol::endpoint& endpoint) {
  const std::string path = endpoint.path();
  struct stat before = {};
  if (path.front() == '\0' || ::lstat(path.c_str(), &before) != 0 || !S_ISSOCK(before.st_mode)) return false;
  if (!is_stale(endpoint)) return false;
  struct stat now = {};
  const bool same = ::lstat(path.c_str(), &now) == 0 && before.st_dev == now.st_dev && before.st_ino == now.st_ino;
  return same && ::unlink(path.c_str()) == 0;
}

COHORT_INLINE int set_rights(const std::string& path, const socket_owner& owner, mode_t mode) {
  // Whoever may write to the directory may have put a link there since; chmod(2) would follow it.
  const descriptor file(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat found = {};
  if (!file || ::fstat(file.get(), &found) != 0) return -1;
  if (!S_ISSOCK(found.st_mode)) {
    errno = ENOTSOCK;
    return -1;
  }
  constexpr auto same = static_cast<uid_t>(-1);  // leaves it as it is (chown(2))
  if (owner.user || owner.group) {
    const auto user = owner.user.value_or(same), group = owner.group.value_or(same);
    if (::fchownat(file.get(), "", user, group, AT_EMPTY_PATH) != 0) return -1;
  }
  return ::chmod(fmt::format("/proc/self/fd/{}", file.get()).c_str(), mode);
}

COHORT_INLINE socket_owner owner_of(const asio::local::stream_protocol::endpoint& endpoint,
                                    const socket_rights& rights) {
  socket_owner result;
  const auto look_up = [&](const char* what, const std::string& name, auto find) {
    if (name.empty()) return;
    try {
      find(account_in(name));
    } catch (const std::system_error& error) {
      throw_error(fmt::format("listen {}: {} \"{}\"", cohort::to_string(endpoint), what, name), error.code());
    }
  };
  look_up("user", rights.user, [&](const account& who) {
    // Its groups do not matter, and a number need not be known.
    result.user = credentials_lookup::find(who, account(0), std::vector<account>()).user;
  });
  look_up("group", rights.group, [&](const account& which) {
    result.group = credentials_lookup::find(std::nullopt, which, std::nullopt).group;
  });
  return result;
}

}  // namespace detail

COHORT_INLINE unix_listener open_unix_listener(const asio::local::stream_protocol::endpoint& endpoint, int backlog,
                                               const socket_rights& rights) {
  const auto check = [&](int result) {
    if (result == 0) return;
    const int error = errno;
    throw_error("listen " + cohort::to_string(endpoint), error);
  };
  const auto bind = [&](int fd) {
    return system::call.bind(fd, endpoint.data(), static_cast<socklen_t>(endpoint.size()));
  };
  const std::string path = endpoint.path();
  const bool has_file = path.front() != '\0';
  const auto owner = has_file ? detail::owner_of(endpoint, rights) : detail::socket_owner();
  const bool has_rights = has_file && (rights.mode || owner.user || owner.group);
  const mode_t mode = rights.mode.value_or(0660);
  unix_listener result;
  result.socket.reset(system::call.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  check(result.socket ? 0 : -1);
  const int fd = result.socket.get();
  // On the socket, from which bind makes the file's mode; the umask has its part in that, and none in the second.
  if (has_rights) check(::fchmod(fd, mode));
  if (bind(fd) != 0) {
    const int error = errno;
    const bool free = error == EADDRINUSE && detail::remove_stale(endpoint);
    errno = error;
    check(free ? bind(fd) : -1);
  }
  if (has_file) result.file = socket_file(path);
  if (has_rights) check(detail::set_rights(path, owner, mode));  // nobody connects before the next step
  check(system::call.listen(fd, backlog));
  return result;
}

}  // namespace cohort
