// SPDX-License-Identifier: BSL-1.0
/// Listeners on this machine alone: unix(7) sockets with a path, or with an abstract name.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include <sys/stat.h>
#include <sys/types.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"

namespace cohort {

/// `unix:/run/app.sock`, `unix:@name` for an abstract one, `unix:` for one without a name.
std::string to_string(const asio::local::stream_protocol::endpoint& endpoint);

/// Reads `unix:/PATH` or `unix:@NAME`. Throws errc::invalid_option with the text, also for a name of more than 107
/// bytes (unix(7)).
asio::local::stream_protocol::endpoint parse_unix_endpoint(const std::string& text);

/// The name that a socket has in the file system, which goes with this object.
///
/// Only the very file that was there when the object was made is removed, and only by the process that has made the
/// object: not what another server has put in its place, and not by a child that was forked.
///
/// Distinct objects: safe. Shared objects: unsafe.
class socket_file {
 public:
  /// None.
  socket_file() = default;

  explicit socket_file(std::string path);

  socket_file(socket_file&& other) noexcept
      : path_(std::exchange(other.path_, {})), made_(other.made_), maker_(other.maker_) {}

  socket_file& operator=(socket_file&& other) noexcept;

  ~socket_file() { remove(); }

  /// Empty if there is none.
  const std::string& path() const noexcept { return path_; }

  /// Whether the name still stands for this very file.
  bool is_there() const noexcept;

  /// Removes it now: nobody new gets through to the listener.
  void remove() noexcept;

  /// Leaves it: another process serves there from now on.
  void release() noexcept { path_.clear(); }

 private:
  std::string path_;
  struct stat made_ = {};
  pid_t maker_ = 0;
};

/// Who may connect to a unix socket with a path. To connect takes the permission to write (unix(7)).
struct socket_rights {
  socket_rights() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)
  socket_rights(std::optional<mode_t> mode_) : mode(mode_) {}
  socket_rights(mode_t mode_) : mode(mode_) {}

  /// Default: 0660 with a user or a group, else what the umask leaves.
  std::optional<mode_t> mode;
  /// The file's, by name or number. Default: those of this process. To give a file to another user, or to a group that
  /// this process is not in, takes privileges.
  std::string user, group;
};

/// A listening socket and its name.
struct unix_listener {
  descriptor socket;
  socket_file file;  ///< none for an abstract name, which goes with the socket
};

namespace detail {

/// Whether a socket file is what a server has left behind that is gone.
bool is_stale(const asio::local::stream_protocol::endpoint& endpoint);

/// Makes room for a new one, if that takes nothing from anybody.
bool remove_stale(const asio::local::stream_protocol::endpoint& endpoint);

struct socket_owner {
  std::optional<uid_t> user;
  std::optional<gid_t> group;
};

/// Looks the names up. Throws errc::invalid_option with one that is not known.
socket_owner owner_of(const asio::local::stream_protocol::endpoint& endpoint, const socket_rights& rights);

/// chown(2) and chmod(2) of a socket file, and of nothing else. 0, or -1 and errno.
int set_rights(const std::string& path, const socket_owner& owner, mode_t mode);

}  // namespace detail

/// Binds and listens. A socket file that nobody accepts at any more is replaced; this takes 20 ms.
///
/// Nobody gets through before the file has its `rights`, which mean nothing for an abstract name. Throws `listen
/// unix:/run/app.sock: Address already in use` and its like, also for an unknown user or group, and leaves no file
/// then.
unix_listener open_unix_listener(const asio::local::stream_protocol::endpoint& endpoint, int backlog,
                                 const socket_rights& rights = {});

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "unix_listener.ipp"
#endif
