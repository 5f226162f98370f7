// SPDX-License-Identifier: BSL-1.0
/// Messages and handles between two processes, each figure beside the raw system calls for the same job in the same run.
///
/// Both sides are processes. "same core" pins them to one processor, where no wake-up has to cross; "two cores" to two.
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cohort/cohort.hpp"
#include "support.hpp"

namespace {

namespace asio = cohort::asio;
using cohort::bench::clock;

struct small {  // 64 bytes of fields
  std::uint64_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8};
};
struct large {
  std::string bytes;
};
struct token {
  std::uint32_t number = 0;
};

using message = std::variant<small, large, token>;
using channel = cohort::channel<message, message>;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

/// Runs `theirs` in a child and `mine` here, each with its end of a stream pair; returns what `mine` returns.
double between(bool same_core, const std::function<void(int)>& theirs, const std::function<double(int)>& mine) {
  auto ends = cohort::make_channel_pair();
  const pid_t pid = ::fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    cohort::bench::pin(same_core ? 0 : 1);
    ends.first.reset();
    theirs(ends.second.release());
    std::_Exit(0);
  }
  cohort::bench::pin(0);
  ends.second.reset();
  const double figure = mine(ends.first.release());
  ::waitpid(pid, nullptr, 0);
  return figure;
}

/// Runs a coroutine over a channel on a socket to its end.
void over_channel(int socket, const std::function<asio::awaitable<void>(channel&)>& body) {
  cohort::channel_options options;
  options.max_leases = 253;
  asio::io_context context(1);
  channel both(context.get_executor(), cohort::descriptor(socket), options);
  asio::co_spawn(context, body(both), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  context.run();
}

// -- the raw side: a blocking-free loop on epoll, as a server has one -------------------------------------------------

class raw_end {
 public:
  explicit raw_end(int socket) : socket_(socket), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
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
      wait(EPOLLIN);
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

  cohort::descriptor socket_;
  cohort::descriptor epoll_;
  unsigned interest_ = EPOLLIN;
};

// -- ping-pong: one message there, one back; microseconds a round trip -------------------------------------------------

double raw_ping_pong(bool same_core, std::size_t size, int rounds) {
  return between(
      same_core,
      [&](int socket) {
        raw_end end(socket);
        std::vector<char> bytes(size);
        for (int i = 0; i < rounds; ++i) {
          end.read_all(bytes.data(), size);
          end.write(bytes.data(), size);
        }
      },
      [&](int socket) {
        raw_end end(socket);
        std::vector<char> bytes(size, 'x');
        const auto begin = clock::now();
        for (int i = 0; i < rounds; ++i) {
          end.write(bytes.data(), size);
          end.read_all(bytes.data(), size);
        }
        return cohort::bench::elapsed(begin) / rounds;
      });
}

asio::awaitable<void> echo(channel& both) {
  while (auto got = co_await both.receive()) {
    if (const auto* text = std::get_if<large>(&*got)) {
      co_await both.send(*text);
    } else {
      co_await both.send(std::get<small>(*got));
    }
  }
}

template <class M>
double ping_pong(bool same_core, const M& what, int rounds) {
  return between(same_core, [](int socket) { over_channel(socket, echo); },
                 [&](int socket) {
                   double figure = 0;
                   over_channel(socket, [&](channel& both) -> asio::awaitable<void> {
                     const auto begin = clock::now();
                     for (int i = 0; i < rounds; ++i) {
                       co_await both.send(what);
                       auto back = co_await both.receive();
                       if (!back) die("echo");
                     }
                     figure = cohort::bench::elapsed(begin) / rounds;
                     co_await both.disconnect();
                   });
                   return figure;
                 });
}

// -- one way: as many as go, until the receiver has them all; microseconds a message -----------------------------------

double raw_one_way(std::size_t size, std::size_t a_write, int count) {
  return between(
      false,
      [&](int socket) {
        raw_end end(socket);
        std::vector<char> bytes(256 * 1024);
        const std::size_t all = size * static_cast<std::size_t>(count);
        for (std::size_t got = 0; got < all;) got += end.read(bytes.data(), bytes.size());
        end.write("!", 1);
      },
      [&](int socket) {
        raw_end end(socket);
        const std::vector<char> bytes(size * a_write, 'x');
        const auto begin = clock::now();
        for (int i = 0; i < count; i += static_cast<int>(a_write)) end.write(bytes.data(), bytes.size());
        char done = 0;
        end.read_all(&done, 1);
        return cohort::bench::elapsed(begin) / count;
      });
}

asio::awaitable<void> count_up(channel& both, int count) {
  for (int i = 0; i < count; ++i) {
    auto got = co_await both.receive();
    if (!got) die("receive");
  }
  co_await both.send<token>();
}

enum class how { send, post };

template <class M>
double one_way(const M& what, how way, int count) {
  return between(
      false,
      [&](int socket) { over_channel(socket, [&](channel& both) { return count_up(both, count); }); },
      [&](int socket) {
        double figure = 0;
        over_channel(socket, [&](channel& both) -> asio::awaitable<void> {
          const auto begin = clock::now();
          for (int i = 0; i < count; ++i) {
            if (way == how::send) {
              co_await both.send(what);
            } else {
              while (!both.post(what)) co_await both.flush();
            }
          }
          auto done = co_await both.receive();
          if (!done) die("receive");
          figure = cohort::bench::elapsed(begin) / count;
        });
        return figure;
      });
}

// -- handles: microseconds each ------------------------------------------------------------------------------------------

double raw_handles(std::size_t a_write, int count) {
  return between(
      false,
      [&](int socket) {
        raw_end end(socket);
        end.read_handles(static_cast<std::size_t>(count));
        end.write("!", 1);
      },
      [&](int socket) {
        raw_end end(socket);
        const cohort::descriptor passed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        const std::vector<int> fds(a_write, passed.get());
        const auto begin = clock::now();
        for (int i = 0; i < count; i += static_cast<int>(a_write)) end.write_handles(fds);
        char done = 0;
        end.read_all(&done, 1);
        return cohort::bench::elapsed(begin) / count;
      });
}

/// One descriptor there, one byte back, and only then the next: what a lease is, by hand.
double raw_handles_answered(int count) {
  return between(
      true,
      [&](int socket) {
        raw_end end(socket);
        for (int i = 0; i < count; ++i) {
          end.read_handles(1);
          end.write("!", 1);
        }
      },
      [&](int socket) {
        raw_end end(socket);
        const cohort::descriptor passed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        const int fds[] = {passed.get()};
        const auto begin = clock::now();
        for (int i = 0; i < count; ++i) {
          end.write_handles(fds);
          char done = 0;
          end.read_all(&done, 1);
        }
        return cohort::bench::elapsed(begin) / count;
      });
}

asio::awaitable<void> take_handles(channel& both) {
  while (auto got = co_await both.receive_handle()) {
  }
}

asio::awaitable<void> lend(channel& both, const cohort::descriptor& passed, int count, int& left, cohort::event& done) {
  token what;
  for (int i = 0; i < count; ++i) co_await both.send_handle(what, passed);
  if (--left == 0) done.set();
}

double leases(bool same_core, int senders, int count) {
  return between(same_core, [](int socket) { over_channel(socket, take_handles); },
                 [&](int socket) {
                   double figure = 0;
                   over_channel(socket, [&](channel& both) -> asio::awaitable<void> {
                     const cohort::descriptor passed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
                     const auto executor = co_await asio::this_coro::executor;
                     cohort::event done(executor);
                     int left = senders;
                     const auto begin = clock::now();
                     for (int i = 0; i < senders; ++i) {
                       asio::co_spawn(executor, lend(both, passed, count / senders, left, done), asio::detached);
                     }
                     co_await done.wait();
                     figure = cohort::bench::elapsed(begin) / count;
                     co_await both.disconnect();
                   });
                   return figure;
                 });
}

/// Prints the median of five runs of both, in turn.
void compare(const std::string& what, const std::function<double()>& ours, const std::function<double()>& raw) {
  const std::vector<std::function<double()>> jobs{ours, raw};
  const auto figures = cohort::bench::alternate(5, jobs);
  const double per_second = 1e6 / figures[0];
  fmt::print("{}: {:.3f} µs ({:.0f}/s), raw {:.3f} µs ({:.0f}/s), rate {:.2f} x raw\n", what, figures[0], per_second,
             figures[1], 1e6 / figures[1], figures[1] / figures[0]);
  std::fflush(stdout);
}

}  // namespace

int main() {
  const small sixty_four;
  large one_mib;
  one_mib.bytes.assign(1024 * 1024, 'x');

  compare("ping-pong, 64 B, same core", [&] { return ping_pong(true, sixty_four, 50'000); },
          [] { return raw_ping_pong(true, 64, 50'000); });
  compare("ping-pong, 64 B, two cores", [&] { return ping_pong(false, sixty_four, 10'000); },
          [] { return raw_ping_pong(false, 64, 10'000); });
  compare("one way, 64 B, send each", [&] { return one_way(sixty_four, how::send, 300'000); },
          [] { return raw_one_way(64, 1, 300'000); });
  compare("one way, 64 B, post (raw: 1024 a write)", [&] { return one_way(sixty_four, how::post, 4'096'000); },
          [] { return raw_one_way(64, 1024, 4'096'000); });
  compare("one way, 1 MiB, send", [&] { return one_way(one_mib, how::send, 1'000); },
          [] { return raw_one_way(1024 * 1024, 1, 1'000); });
  compare("handles, one lease at a time, same core", [] { return leases(true, 1, 20'000); },
          [] { return raw_handles_answered(20'000); });
  compare("handles, 128 leases in flight (raw: one a write)", [] { return leases(false, 128, 204'800); },
          [] { return raw_handles(1, 204'800); });
  compare("handles, 128 leases in flight (raw: 128 a write)", [] { return leases(false, 128, 204'800); },
          [] { return raw_handles(128, 204'800); });
}
