// SPDX-License-Identifier: BSL-1.0
/// The raw side: a non-blocking loop on epoll, as a server has one.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "setting.hpp"

namespace cohort::bench {

class raw_end {
 public:
  /// One that `polls` asks for input again and again instead of waiting for it.
  explicit raw_end(int socket, bool polls = false)
      : socket_(socket), epoll_(::epoll_create1(EPOLL_CLOEXEC)), polls_(polls) {
    epoll_event interest{};
    interest.events = EPOLLIN;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &interest);
  }

  void write(const void* data, std::size_t size) {
    const char* at = static_cast<const char*>(data);
    while (size != 0) {
      const ssize_t sent = ::send(socket_.get(), at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) {
        wait(EPOLLOUT);
        continue;
      }
      if (sent < 0) die("send");
      at += sent;
      size -= static_cast<std::size_t>(sent);
    }
  }

  /// Reads what is there, at least a byte; 0 at the end.
  std::size_t read(void* data, std::size_t room) {
    for (;;) {
      if (!polls_) wait(EPOLLIN);
      const ssize_t got = ::recv(socket_.get(), data, room, MSG_DONTWAIT);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EAGAIN) die("recv");
    }
  }

  void read_all(void* data, std::size_t size) {
    char* at = static_cast<char*>(data);
    while (size != 0) {
      const std::size_t got = read(at, size);
      if (got == 0) die("end of stream");
      at += got;
      size -= got;
    }
  }

  /// `fds` in one sendmsg, with a byte for each.
  void write_handles(std::span<const int> fds) {
    const std::vector<char> bytes(fds.size(), 'h');
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char ancillary[CMSG_SPACE(253 * sizeof(int))] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = ancillary;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    while (::sendmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno != EAGAIN && errno != ETOOMANYREFS) die("sendmsg");
      wait(EPOLLOUT);
    }
  }

  /// Receives handles until the end or `count`, closes each.
  std::size_t read_handles(std::size_t count) {
    std::size_t total = 0;
    while (total < count) {
      wait(EPOLLIN);
      char bytes[253];
      iovec part{bytes, sizeof bytes};
      alignas(cmsghdr) char ancillary[CMSG_SPACE(253 * sizeof(int))];
      msghdr header{};
      header.msg_iov = &part;
      header.msg_iovlen = 1;
      header.msg_control = ancillary;
      header.msg_controllen = sizeof ancillary;
      const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (got == 0) break;
      if (got < 0) {
        if (errno == EAGAIN) continue;
        die("recvmsg");
      }
      for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
        const std::size_t fds = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < fds; ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(each) + i * sizeof(int), sizeof fd);
          ::close(fd);
          ++total;
        }
      }
    }
    return total;
  }

 private:
  void wait(unsigned events) {
    epoll_event what{};
    what.events = events;
    if (events != interest_) ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket_.get(), &what);
    interest_ = events;
    while (::epoll_wait(epoll_.get(), &what, 1, -1) < 0) {
      if (errno != EINTR) die("epoll_wait");
    }
  }

  descriptor socket_;
  descriptor epoll_;
  unsigned interest_ = EPOLLIN;
  bool polls_;
};

}  // namespace cohort::bench
