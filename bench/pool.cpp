// SPDX-License-Identifier: BSL-1.0
/// Jobs of a process_pool, one after the other, each figure beside the raw system calls for the same job in the same run:
/// so many bytes to a child and back, with epoll on both sides. And beside Python's ProcessPoolExecutor and Node's fork, if
/// they are there. Everything on one processor.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cohort/pool/process_pool.hpp"
#include "support.hpp"

namespace {

namespace asio = cohort::asio;
using cohort::bench::clock;

struct echo_job {
  using argument = std::string;
  using result = std::string;
  static std::string run(std::string text) { return text; }
};

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

void run(asio::awaitable<void> main) {
  asio::io_context context(1);
  asio::co_spawn(context, std::move(main), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  context.run();
}

/// Microseconds a job.
double jobs(std::size_t size, int count) {
  double figure = 0;
  const auto measure = [&]() -> asio::awaitable<void> {
    cohort::pool_options options;
    options.processes = 1;
    cohort::process_pool<echo_job> pool(co_await asio::this_coro::executor, options);
    const std::string text(size, 'x');
    co_await pool.run(text);  // starts the process
    const auto begin = clock::now();
    for (int i = 0; i < count; ++i) {
      const auto back = co_await pool.run(text);
      if (back.size() != size) die("echo");
    }
    figure = cohort::bench::elapsed(begin) / count;
    co_await pool.close();
  };
  run(measure());
  return figure;
}

class raw_end {
 public:
  explicit raw_end(int socket) : socket_(socket), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event interest{};
    interest.events = EPOLLIN | EPOLLOUT | EPOLLET;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &interest);
  }

  void write(const char* data, std::size_t size) {
    while (size != 0) {
      const ssize_t sent = ::send(socket_.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) die("send");
      if (sent < 0) {
        wait();
        continue;
      }
      data += sent;
      size -= static_cast<std::size_t>(sent);
    }
  }

  void read(char* data, std::size_t size) {
    while (size != 0) {
      const ssize_t got = ::recv(socket_.get(), data, size, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN)) die("recv");
      if (got < 0) {
        wait();
        continue;
      }
      data += got;
      size -= static_cast<std::size_t>(got);
    }
  }

 private:
  void wait() {
    epoll_event what{};
    while (::epoll_wait(epoll_.get(), &what, 1, -1) < 0) {
      if (errno != EINTR) die("epoll_wait");
    }
  }

  cohort::descriptor socket_;
  cohort::descriptor epoll_;
};

double raw(std::size_t size, int count) {
  auto ends = cohort::make_channel_pair();
  const pid_t pid = ::fork();
  if (pid < 0) die("fork");
  std::vector<char> bytes(size, 'x');
  if (pid == 0) {
    ends.first.reset();
    raw_end end(ends.second.release());
    for (int i = 0; i < count; ++i) {
      end.read(bytes.data(), size);
      end.write(bytes.data(), size);
    }
    std::_Exit(0);
  }
  ends.second.reset();
  raw_end end(ends.first.release());
  const auto begin = clock::now();
  for (int i = 0; i < count; ++i) {
    end.write(bytes.data(), size);
    end.read(bytes.data(), size);
  }
  const double figure = cohort::bench::elapsed(begin) / count;
  ::waitpid(pid, nullptr, 0);
  return figure;
}

const char* const python = R"(
import concurrent.futures, multiprocessing, sys, time
def echo(text): return text
size, count = map(int, sys.argv[1:])
text = b'x' * size
with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as pool:
    pool.submit(echo, text).result()
    begin = time.monotonic()
    for _ in range(count): pool.submit(echo, text).result()
    print((time.monotonic() - begin) * 1e6 / count)
)";

// What child_process.fork() does, which wants a file for its child.
const char* const node = R"(
const [size, count] = process.argv.slice(1).map(Number);
const child = require('child_process').spawn(
    process.execPath, ['-e', 'process.on("message", text => process.send(text))'], { stdio: [0, 1, 2, 'ipc'] });
const text = 'x'.repeat(size);
let begin, done = -1;
child.on('message', () => {
  if (++done === 0) begin = performance.now();
  if (done < count) return child.send(text);
  console.log((performance.now() - begin) * 1e3 / count);
  child.disconnect();
});
child.send(text);
)";

/// Microseconds a job that another program counts; 0 if it is not there.
double others(const char* program, const char* option, const char* script, std::size_t size, int count) {
  double figure = 0;
  const auto measure = [&]() -> asio::awaitable<void> {
    cohort::command what(program, option, script, std::to_string(size), std::to_string(count));
    what.out(cohort::stdio::pipe);
    auto child = co_await cohort::spawn(what);
    const auto text = co_await child.out().read_all();
    co_await child.wait();
    figure = std::strtod(text.c_str(), nullptr);
  };
  try {
    run(measure());
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::no_such_file_or_directory) throw;
  }
  return figure;
}

void compare(const std::string& what, std::size_t size, int count) {
  const std::vector<std::function<double()>> sides{
      [&] { return jobs(size, count); },
      [&] { return raw(size == 0 ? 1 : size, count); },
      [&] { return others("python3", "-c", python, size, count / 10); },
      [&] { return others("node", "-e", node, size, count / 10); },
  };
  const auto figures = cohort::bench::alternate(5, sides);
  fmt::print("{}: {:.1f} µs ({:.0f} jobs/s), raw {:.1f} µs, ratio {:.2f}, {:.1f} µs over it\n", what, figures[0],
             1e6 / figures[0], figures[1], figures[0] / figures[1], figures[0] - figures[1]);
  const auto beside = [&](const char* whose, double figure) {
    if (figure == 0) return;
    fmt::print("  {} {:.1f} µs ({:.0f} jobs/s, we {:.1f} x)\n", whose, figure, 1e6 / figure, figure / figures[0]);
  };
  beside("Python's ProcessPoolExecutor", figures[2]);
  beside("Node's fork", figures[3]);
  std::fflush(stdout);
}

}  // namespace

int main() {
  if (const auto status = cohort::pool::serve_if_worker<echo_job>()) return *status;
  cohort::bench::pin(0);
  compare("job, empty", 0, 20'000);
  compare("job, 1 KiB there and back", 1024, 20'000);
  compare("job, 1 MiB there and back", 1024 * 1024, 500);
}
