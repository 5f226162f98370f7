// SPDX-License-Identifier: BSL-1.0
/// The same jobs with other libraries, as far as they are here: ZeroMQ and nng (both PAIR over ipc), Node's
/// process.send. There is one process on each of two processors, the threads of a library with its process; those of
/// Node may use both.
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include "cohort/core/run_sync.hpp"
#include "cohort/process/exec.hpp"

#include "../ipc/one_way.hpp"
#include "../ipc/ping_pong.hpp"
#if HAS_ZMQ
#include <zmq.h>
#endif
#if HAS_NNG
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#endif

namespace cohort::bench {
namespace {

constexpr int rounds = 20'000;
constexpr int many = 500'000;
constexpr int large_ones = 500;
constexpr std::size_t mib = 1024 * 1024;

/// An address of the file system that nobody else has, for as long as this lives.
class address {
 public:
  address() {
    std::string name = std::filesystem::temp_directory_path() / "cohort-bench-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) die("mkdtemp");
    directory_ = name;
  }
  address(const address&) = delete;
  ~address() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  std::string url() const { return "ipc://" + (directory_ / "socket").string(); }

 private:
  std::filesystem::path directory_;
};

/// The jobs, over any `Socket` that is made of a URL and whether to listen there, and has send(data, size) and
/// receive().
template <class Socket>
double ping_pong_over(std::size_t size, int count) {
  const address place;
  return in_two_processes(
      where::two_cores,
      [&] {
        Socket socket(place.url(), false);
        const std::vector<char> bytes(size, 'x');
        for (int i = 0; i < count; ++i) {
          socket.receive();
          socket.send(bytes.data(), size);
        }
        socket.receive();
      },
      [&] {
        Socket socket(place.url(), true);
        const std::vector<char> bytes(size, 'x');
        const auto begin = clock::now();
        for (int i = 0; i < count; ++i) {
          socket.send(bytes.data(), size);
          socket.receive();
        }
        const double figure = elapsed(begin) / count;
        socket.send("!", 1);
        return figure;
      });
}

template <class Socket>
double one_way_over(std::size_t size, int count) {
  const address place;
  return in_two_processes(
      where::two_cores,
      [&] {
        Socket socket(place.url(), false);
        for (int i = 0; i < count; ++i) socket.receive();
        socket.send("!", 1);
        socket.receive();
      },
      [&] {
        Socket socket(place.url(), true);
        const std::vector<char> bytes(size, 'x');
        const auto begin = clock::now();
        for (int i = 0; i < count; ++i) socket.send(bytes.data(), size);
        socket.receive();
        const double figure = elapsed(begin) / count;
        socket.send("!", 1);
        return figure;
      });
}

template <class Socket>
void compare_with(const std::string& name) {
  const small least;
  const large one_mib = large_of(mib);
  compare(
      "ping-pong, 64 B", [&] { return ping_pong(where::two_cores, least, rounds); }, name,
      [] { return ping_pong_over<Socket>(64, rounds); });
  compare(
      "one way, 64 B, post", [&] { return one_way(least, how::post, taking::receive, many); }, name,
      [] { return one_way_over<Socket>(64, many); });
  compare(
      "one way, 1 MiB, send", [&] { return one_way(one_mib, how::send, taking::receive, large_ones); }, name,
      [] { return one_way_over<Socket>(mib, large_ones); });
}

#if HAS_ZMQ
class zmq_pair {
 public:
  zmq_pair(const std::string& url, bool listens) {
    if ((listens ? ::zmq_bind(socket_, url.c_str()) : ::zmq_connect(socket_, url.c_str())) != 0) die("zmq");
  }
  zmq_pair(const zmq_pair&) = delete;
  ~zmq_pair() {
    ::zmq_close(socket_);
    ::zmq_ctx_term(context_);
  }

  void send(const void* data, std::size_t size) {
    if (::zmq_send(socket_, data, size, 0) < 0) die("zmq_send");
  }

  void receive() {
    zmq_msg_t message;
    ::zmq_msg_init(&message);
    if (::zmq_msg_recv(&message, socket_, 0) < 0) die("zmq_msg_recv");
    ::zmq_msg_close(&message);
  }

 private:
  void* context_ = ::zmq_ctx_new();
  void* socket_ = ::zmq_socket(context_, ZMQ_PAIR);
};
#endif

#if HAS_NNG
class nng_pair {
 public:
  nng_pair(const std::string& url, bool listens) {
    require(::nng_pair0_open(&socket_));
    require(::nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, 0));
    require(listens ? ::nng_listen(socket_, url.c_str(), nullptr, 0)
                    : ::nng_dial(socket_, url.c_str(), nullptr, NNG_FLAG_NONBLOCK));
  }
  nng_pair(const nng_pair&) = delete;
  ~nng_pair() { ::nng_close(socket_); }

  void send(const void* data, std::size_t size) { require(::nng_send(socket_, const_cast<void*>(data), size, 0)); }

  void receive() {
    nng_msg* message = nullptr;
    require(::nng_recvmsg(socket_, &message, 0));
    ::nng_msg_free(message);
  }

 private:
  static void require(int error) {
    if (error == 0) return;
    fmt::print(stderr, "nng: {}\n", ::nng_strerror(error));
    std::_Exit(1);
  }

  nng_socket socket_ = NNG_SOCKET_INITIALIZER;
};
#endif

/// What the script says; none if there is no Node.
std::optional<double> node(where place, const std::string& job, int count) {
  try {
    command program("node", NODE_SCRIPT, job, std::to_string(count));
    if (place == where::same_core) {
      program.cpu_affinity(0);
    } else {
      program.cpu_affinity(0, 1);
    }
    const auto out = run_sync(exec_file(std::move(program)));
    double figure = 0;
    const auto [end, error] = std::from_chars(out.out.data(), out.out.data() + out.out.size(), figure);
    if (out.status.success() && error == std::errc()) return figure;
    fmt::print(stderr, "node: {}\n", out.err);
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::no_such_file_or_directory) throw;
  }
  return std::nullopt;
}

void compare_with_node() {
  if (!node(where::two_cores, "ping-pong", 1)) {
    fmt::print("Node is not installed: nothing to compare with.\n");
    return;
  }
  const small least;
  const auto theirs = [](where place, const char* job, int count) {
    return [=] { return node(place, job, count).value_or(0); };
  };
  // Which of its processes runs where is for the system to say, and decides the price of a wake-up.
  compare(
      "ping-pong, 64 B, same core", [&] { return ping_pong(where::same_core, least, rounds); }, "Node",
      theirs(where::same_core, "ping-pong", rounds));
  compare(
      "one way, 64 B, post", [&] { return one_way(least, how::post, taking::receive, many); }, "Node",
      theirs(where::two_cores, "one-way", many / 5));
}

}  // namespace
}  // namespace cohort::bench

int main() {
  using namespace cohort::bench;
#if HAS_ZMQ
  compare_with<zmq_pair>("ZeroMQ");
#else
  fmt::print("ZeroMQ (libzmq3-dev) is not installed: nothing to compare with.\n");
#endif
#if HAS_NNG
  compare_with<nng_pair>("nng");
#else
  fmt::print("nng (libnng-dev) is not installed: nothing to compare with.\n");
#endif
  compare_with_node();
}
