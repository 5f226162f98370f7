// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace cohort::detail {

/// How many sockets that a Node peer has given, and counts by a key, are open in this process.
///
/// Nothing is told when a socket is closed: a socket is known by its number and the kernel's cookie (SO_COOKIE), and is
/// closed when the number has another one or none. One that has been passed on, or has another number now, counts as
/// closed.
class node_socket_counts {
 public:
  void add(const std::string& key, int fd);

  /// Those of this key that are open now.
  std::size_t count(const std::string& key);

  /// The peer is to be told when the last one is closed.
  void watch(const std::string& key) { watched_.insert(key); }
  bool is_watching() const noexcept { return !watched_.empty(); }

  /// The watched keys of which no socket is open any more; they are watched no longer.
  std::vector<std::string> take_closed();

 private:
  struct socket {
    int fd;
    std::uint64_t cookie;
  };

  static void drop_closed(std::vector<socket>& sockets);

  std::map<std::string, std::vector<socket>> sockets_;
  std::set<std::string> watched_;
  std::size_t added_ = 0;  // since all keys were looked through
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "socket_counts.ipp"
#endif
