// SPDX-License-Identifier: BSL-1.0
// An HTTP cluster with one access log, to which all workers write, and which an agent turns over: on a timetable, and
// when it is large. PATH becomes PATH.1, that becomes PATH.2, and so on; what is old is compressed, and removed in the
// end.
//
// After the renaming the workers still have the old file open, and write to it. So the agent tells them to open PATH
// again, and waits until each of them has, which the receipt of the message says. Only then nobody writes to an old
// file any more, and it may be compressed. One that has died is not waited for; one that hangs is, until the primary
// has it replaced.
//
//   GET /anything    adds a line to the log, and answers when it is there
//
//   log_rotate --listen 127.0.0.1:8000 --workers 4 --log access.log --at '0 0 * * *' --max-size 10000000 --keep 7
//
// To be there alone: this cluster knows nothing of other processes that have the log open. Those of a primary that was
// upgraded or killed are such, until they have finished their connections.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "http.hpp"

namespace fs = std::filesystem;
using asio::awaitable;
using asio::ip::tcp;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

/// What workers are told.
struct reopen {};
using bus = cohort::messenger<reopen>;

/// The log, as one worker has it open.
class log_file {
 public:
  explicit log_file(std::string path) : path_(std::move(path)) {}

  /// Opens it, or opens it again. If that fails, the file from before stays.
  void open() {
    cohort::descriptor file(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
    if (!file) cohort::throw_error(fmt::format("open \"{}\"", path_), errno);
    file_ = std::move(file);
  }

  /// With O_APPEND, and in one write, a line stays in one piece behind the others, whoever else writes at that moment.
  void write(const std::string& line) {
    const auto written = ::write(file_.get(), line.data(), line.size());
    if (written < 0) cohort::throw_error(fmt::format("write \"{}\"", path_), errno);
    if (static_cast<std::size_t>(written) < line.size()) throw std::runtime_error("write: the disk is full");
  }

 private:
  std::string path_;
  cohort::descriptor file_;
};

http::response answer(const http::request_parser& request, unsigned worker, log_file& log) {
  try {
    const auto now = fmt::gmtime(std::time(nullptr));
    log.write(fmt::format("{:%FT%TZ} worker {} pid {} {}\n", now, worker, ::getpid(), request.path()));
  } catch (const std::exception& error) {
    fmt::print(stderr, "worker {}: {}\n", worker, error.what());
    return {HTTP_STATUS_INTERNAL_SERVER_ERROR, "not logged\n"};
  }
  return {HTTP_STATUS_OK, "logged\n"};
}

/// The log and what it was before, in the agent.
class archive {
 public:
  archive(const asio::any_io_executor& executor, fs::path log, unsigned keep)
      : log_(std::move(log)), keep_(keep), turn_(executor, 1) {}

  /// Turns the log over if it has more than `size` bytes.
  awaitable<void> rotate_over(cohort::worker& self, std::uintmax_t size) {
    co_await turn_.acquire();
    const permit until_the_end{turn_};
    std::error_code
        missing;  // an agent has died in the middle, or somebody has removed it: the workers are to make one
    const auto now = fs::file_size(log_, missing);
    if (!missing && now <= size) co_return;
    if (!missing) rename();
    co_await settle(self);
  }

  /// Finishes what an agent before this one may have left in the middle.
  awaitable<void> recover(cohort::worker& self) {
    co_await turn_.acquire();
    const permit until_the_end{turn_};
    co_await settle(self);
  }

 private:
  struct permit {
    cohort::semaphore& of;
    ~permit() { of.release(); }
  };

  fs::path old(unsigned number, std::string_view suffix = "") const {
    return fmt::format("{}.{}{}", log_.native(), number, suffix);
  }

  bool is_there(unsigned number) const { return fs::exists(old(number)) || fs::exists(old(number, ".gz")); }

  void rename() const {
    unsigned number = 1;
    while (is_there(number)) ++number;
    for (; number > 1; --number) {
      for (const auto suffix : {"", ".gz"}) {
        if (fs::exists(old(number - 1, suffix))) fs::rename(old(number - 1, suffix), old(number, suffix));
      }
    }
    fs::rename(log_, old(1));
  }

  /// Has all workers open the log, and then compresses and removes what nobody writes to any more.
  awaitable<void> settle(cohort::worker& self) const {
    co_await have_reopened(self);
    for (unsigned number = 1; is_there(number); ++number) {
      if (number > keep_) {
        fs::remove(old(number));
        fs::remove(old(number, ".gz"));
      } else if (fs::exists(old(number))) {
        co_await compress(old(number));
      }
    }
  }

  static awaitable<void> have_reopened(cohort::worker& self) {
    bus talk(self);
    const reopen what;
    const cohort::receipt receipt = co_await talk.send_to_workers(what);
    for (const auto& each : receipt.failures) {
      // Who is gone writes no more. Who is not ready does not listen yet, and so has not opened the log either.
      if (each.why == cohort::undelivered::gone || each.why == cohort::undelivered::not_ready) continue;
      // Whatever else: it may write to an old file, and all of them stay as they are until the next time.
      throw std::runtime_error(fmt::format("reopen: {}", cohort::to_string(receipt)));
    }
  }

  static awaitable<void> compress(fs::path file) {
    cohort::command gzip("gzip", "-f", file.native());  // -f: over what one has left that did not come to its end
    gzip.nice(10);
    const auto done = co_await cohort::exec_file(gzip);
    if (!done.status.success()) throw std::runtime_error(fmt::format("gzip {}: {}", done.status, done.err));
  }

  fs::path log_;
  unsigned keep_;
  cohort::semaphore turn_;  // one rotation at a time
};

struct settings {
  std::string listen = "127.0.0.1:8000";
  unsigned workers = 4;
  std::string log = "access.log";
  std::optional<cohort::cron> at{cohort::cron("0 0 * * *")};
  std::uintmax_t max_size = 10'000'000;
  milliseconds check = 1s;
  unsigned keep = 7;
};

settings parse_options(int argc, char* argv[]) {
  settings result;
  double seconds = 0;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      result.listen = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--log" && !value.empty()) {
      result.log = value;
    } else if (option == "--at") {
      result.at.reset();
      if (value != "off") result.at = cohort::cron(value);
    } else if (option == "--check" && http::parse_number(value, 0.01, 86'400.0, seconds)) {
      result.check = milliseconds(static_cast<int>(1000 * seconds));
    } else if (!(option == "--workers" && http::parse_number(value, 1u, 1024u, result.workers)) &&
               !(option == "--max-size" &&
                 http::parse_number(value, std::uintmax_t{1}, UINTMAX_MAX, result.max_size)) &&
               !(option == "--keep" && http::parse_number(value, 1u, 1'000'000u, result.keep))) {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  return result;
}

int main(int argc, char* argv[]) {
  settings wanted;
  try {
    wanted = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "log_rotate: {}\n"
               "usage: log_rotate [--listen ADDRESS:PORT] [--workers N] [--log PATH] [--at CRON|off]\n"
               "                  [--max-size BYTES] [--check SECONDS] [--keep N]\n",
               error.what());
    return 2;
  }

  log_file log(wanted.log);         // of a worker
  std::optional<bus> talk;          // of a worker
  std::optional<archive> archived;  // of the agent

  cohort::worker_options worker;
  worker.set_up = [&](cohort::worker& self) -> awaitable<void> {
    // Listens before it opens, or it would miss a rotation in between.
    talk.emplace(self);
    talk->on<reopen>([&](const reopen&) { log.open(); });
    log.open();
    co_return;
  };

  cohort::agent_options agent("archive");
  agent.set_up = [&](cohort::worker& self) -> awaitable<void> {
    archived.emplace(self.get_executor(), wanted.log, wanted.keep);
    co_return;
  };
  agent.run = [&](cohort::worker& self) -> awaitable<void> {
    co_await self.all_ready();
    co_await archived->recover(self);
  };

  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.worker = worker;
  options.agents.push_back(agent);
  if (wanted.at) {
    cohort::schedule timetable("rotate");
    timetable.at(*wanted.at).on_agent();
    options.schedules.push_back({timetable, [&](cohort::worker& self) { return archived->rotate_over(self, 0); }});
  }
  cohort::schedule check("check size");
  check.every(wanted.check).on_agent().missed(cohort::missed_runs::run_once);  // one that rotates may take longer
  const auto rotate_if_large = [&](cohort::worker& self) { return archived->rotate_over(self, wanted.max_size); };
  options.schedules.push_back({check, rotate_if_large});
  options.on_event = [](const cohort::cluster_event& event) {
    if (event.run && event.run->ok) return;  // of the schedules, what has failed is enough
    const auto text = cohort::to_string(event);
    if (event.what != cohort::cluster_event::kind::listening) return cohort::error_log::write(text);
    std::puts(text.c_str());
    std::fflush(stdout);
  };
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return http::serve(std::move(socket), self,
                       [&](const http::request_parser& request) { return answer(request, self.slot(), log); });
  });
}
