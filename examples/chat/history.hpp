// SPDX-License-Identifier: BSL-1.0
// What was said, in its order: a log that the agent of the chat keeps in a directory, and what the workers hear of it.
//
// The log is a file of lines, to which whoever holds the lock appends. While the primary is replaced (SIGUSR2) there
// are two agents, of the old one and of the new one; each tells its workers what the other one has added. An agent that
// is killed has lost nothing: the next one reads the file. The kernel writes it to the disk when it likes, so a crash
// of the whole machine may cost the last seconds.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cohort/cohort.hpp>

#include "../http.hpp"

namespace chat {

/// To the agent: a page says this. `counter` is 1 for the first thing that a page says, and one more for each further.
struct say {
  std::string room, page, user, text;
  std::uint64_t counter = 0;
};

/// To the agent: tell me what has come after this number.
struct want {
  std::uint64_t after = 0;
};

/// To workers: all that has come after that number, up to the last of these lines.
struct said {
  std::uint64_t after = 0;
  std::vector<std::string> lines;
};

using bus = cohort::messenger<std::variant<say, want, said>>;
inline constexpr const char* agent_name = "history";

inline std::vector<std::string_view> fields(std::string_view line, std::size_t count) {
  std::vector<std::string_view> result;
  for (std::size_t tab = 0; result.size() + 1 < count && (tab = line.find('\t')) != line.npos;) {
    result.push_back(line.substr(0, tab));
    line.remove_prefix(tab + 1);
  }
  result.push_back(line);
  return result;
}

/// A line of the log, which is what pages get, too: NUMBER, ROOM, PAGE, COUNTER, USER and TEXT with tabs between.
struct message {
  explicit message(std::string text) : line(std::move(text)) {
    const auto part = fields(line, 6);
    if (part.size() != 6) return;
    room = part[1];
    page = part[2];
    if (!http::parse_number(part[3], std::uint64_t{1}, UINT64_MAX, counter)) return;
    http::parse_number(part[0], std::uint64_t{1}, UINT64_MAX, number);
  }

  std::string line;
  std::string room, page;
  std::uint64_t number = 0, counter = 0;  // number 0: it is no such line
};

class log {
 public:
  static constexpr std::size_t longest = 10'000;  // lines that are kept, of all rooms

  /// Makes the directory, if it is not there.
  explicit log(std::string directory) : directory_(std::move(directory)) {
    if (::mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) fail("mkdir");
    lock_ = open("lock", O_RDWR | O_CREAT);
  }

  /// Adds what a page says, unless it is there. Returns the lines that are new to this process.
  std::vector<std::string> add(const say& what) {
    const locked until_the_end(*this);
    auto fresh = read_on();
    if (what.counter <= counters_[what.page]) return fresh;  // it has come before, and the page does not know
    const auto line =
        fmt::format("{}\t{}\t{}\t{}\t{}\t{}\n", last_ + 1, what.room, what.page, what.counter, what.user, what.text);
    if (::pwrite(file_.get(), line.data(), line.size(), offset_) != static_cast<ssize_t>(line.size())) {
      const int error = errno;
      static_cast<void>(::ftruncate(file_.get(), offset_));  // else whoever reads on does it
      errno = error;
      fail("write");
    }
    for (auto& each : read_on()) fresh.push_back(std::move(each));
    if (lines_in_file_ >= 2 * longest) shorten();
    return fresh;
  }

  /// The lines that are new to this process.
  std::vector<std::string> catch_up() {
    const locked until_the_end(*this);
    return read_on();
  }

  std::vector<std::string> after(std::uint64_t number) const {
    std::vector<std::string> result;
    for (const auto& each : lines_) {
      if (each.number > number) result.push_back(each.line);
    }
    return result;
  }

 private:
  struct locked {
    explicit locked(log& owner) : of(owner) {
      while (::flock(of.lock_.get(), LOCK_EX) != 0) {
        if (errno != EINTR) of.fail("flock");
      }
    }
    ~locked() { ::flock(of.lock_.get(), LOCK_UN); }
    log& of;
  };

  [[noreturn]] void fail(const char* step) const { cohort::throw_error(fmt::format("{} {}", step, directory_), errno); }

  std::string path(const char* name) const { return fmt::format("{}/{}", directory_, name); }

  cohort::descriptor open(const char* name, int flags) const {
    cohort::descriptor result(::open(path(name).c_str(), flags | O_CLOEXEC, 0600));
    if (!result) fail("open");
    return result;
  }

  std::vector<std::string> read_on() {
    struct stat now{};
    if (!file_ || (::fstat(file_.get(), &now) == 0 && now.st_nlink == 0)) {  // the other agent has shortened it
      file_ = open("log", O_RDWR | O_CREAT);
      offset_ = 0;
      lines_in_file_ = 0;
    }
    std::string rest;
    std::array<char, 65536> bytes;
    for (ssize_t size = 0;;) {
      size = ::pread(file_.get(), bytes.data(), bytes.size(), offset_ + static_cast<off_t>(rest.size()));
      if (size < 0) fail("read");
      if (size == 0) break;
      rest.append(bytes.data(), static_cast<std::size_t>(size));
    }
    std::vector<std::string> fresh;
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = rest.find('\n', begin)) != rest.npos; begin = end + 1) {
      ++lines_in_file_;
      message next(rest.substr(begin, end - begin));
      if (next.number <= last_) continue;
      last_ = next.number;
      counters_[next.page] = next.counter;
      fresh.push_back(next.line);
      lines_.push_back(std::move(next));
      if (lines_.size() > longest) lines_.pop_front();
    }
    offset_ += static_cast<off_t>(begin);
    // An agent has died in the middle of a line, of which nobody has heard.
    if (begin < rest.size() && ::ftruncate(file_.get(), offset_) != 0) fail("truncate");
    return fresh;
  }

  /// Leaves the last lines alone, in a new file.
  void shorten() {
    std::string all;
    counters_.clear();
    for (const auto& each : lines_) {
      all += each.line + '\n';
      counters_[each.page] = each.counter;
    }
    const auto next = open("new", O_RDWR | O_CREAT | O_TRUNC);
    if (::write(next.get(), all.data(), all.size()) != static_cast<ssize_t>(all.size())) return;  // later, perhaps
    if (::rename(path("new").c_str(), path("log").c_str()) != 0) fail("rename");
    read_on();
  }

  std::string directory_;
  cohort::descriptor lock_, file_;
  off_t offset_ = 0;  // up to where it has been read
  std::size_t lines_in_file_ = 0;
  std::deque<message> lines_;
  std::map<std::string, std::uint64_t, std::less<>> counters_;  // of what each page has said last
  std::uint64_t last_ = 0;
};

/// The agent: gives what is said its number, and tells the workers of it.
class historian {
 public:
  historian(cohort::worker& self, const std::string& directory)
      : talk_(self), log_(directory), sending_(self.get_executor()), changes_(self.get_executor()) {
    const int watching = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watching < 0) cohort::throw_error("inotify_init1", errno);
    changes_.assign(watching);
    if (::inotify_add_watch(watching, directory.c_str(), IN_MODIFY | IN_MOVED_TO) < 0) {
      cohort::throw_error("inotify_add_watch " + directory, errno);
    }
    log_.catch_up();
    talk_.on<say>([this](const say& what) { tell_workers(log_.add(what)); });
    talk_.on<want>(
        [this](const want& what, const cohort::member& from) { tell(from, what.after, log_.after(what.after)); });
  }

  /// Tells the workers what another agent adds, until it is cancelled.
  asio::awaitable<void> watch() {
    std::array<char, 4096> events;
    for (;;) {
      tell_workers(log_.catch_up());
      co_await changes_.async_read_some(asio::buffer(events), asio::use_awaitable);
    }
  }

  asio::awaitable<void> end() { return sending_.cancel_and_wait(); }

 private:
  void tell_workers(std::vector<std::string> fresh) {
    if (fresh.empty()) return;
    const auto first = message(fresh.front()).number;
    tell(cohort::recipient::workers(), first - 1, std::move(fresh));
  }

  /// Sends begin at once, and so come in their order; nobody waits for a slow worker.
  void tell(const cohort::recipient& who, std::uint64_t after, std::vector<std::string> lines) {
    constexpr std::size_t at_once = 1000;
    for (std::size_t done = 0; done == 0 || done < lines.size(); done += at_once) {
      const auto begin = lines.begin() + static_cast<std::ptrdiff_t>(done);
      const auto end = lines.begin() + static_cast<std::ptrdiff_t>(std::min(done + at_once, lines.size()));
      said part{after, std::vector<std::string>(begin, end)};
      if (!part.lines.empty()) after = message(part.lines.back()).number;
      sending_.start(send(who, std::move(part)), cohort::ignored("a worker that misses a line asks for it"));
    }
  }

  asio::awaitable<void> send(cohort::recipient who, said what) { co_await talk_.send_to(who, what); }

  bus talk_;
  log log_;
  cohort::task_group sending_;
  asio::posix::stream_descriptor changes_;
};

}  // namespace chat
