// SPDX-License-Identifier: BSL-1.0
// Looks at a running cluster and tells it what to do, over its control socket.
//
//   http_cluster --control /run/http.ctl &
//   cohortctl --socket /run/http.ctl status --watch
//   cohortctl --socket /run/http.ctl reload

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cohort/cluster/control/client.hpp>
#include <cohort/cluster/control/metrics.hpp>
#include <cohort/core/timeout.hpp>

using cohort::cluster_stats;
using cohort::worker_state;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// -- text for people -------------------------------------------------------------------------------------------------

/// What a worker or a server has said, without what would move the cursor of a terminal.
std::string printable(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0u;
    if (c == 0xc2 && next >= 0x80 && next < 0xa0) {  // the control characters U+0080 to U+009F
      result += '?';
      ++i;
    } else {
      result += c < 0x20 || c == 0x7f ? '?' : text[i];
    }
  }
  return result;
}

/// The first `width` characters of a text in UTF-8, the last of them an ellipsis if there are more.
std::string cut(std::string_view text, std::size_t width) {
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  std::size_t seen = 0, end = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!begins(text[i])) continue;
    if (++seen == width) end = i;
    if (seen > width) return std::string(text.substr(0, end)) + "…";
  }
  return std::string(text);
}

std::string age(milliseconds time) {
  const auto all = time.count() / 1000;
  if (all < 60) return fmt::format("{}s", all);
  if (all < 3600) return fmt::format("{}m{:02}s", all / 60, all % 60);
  if (all < 86'400) return fmt::format("{}h{:02}m", all / 3600, all / 60 % 60);
  return fmt::format("{}d{:02}h", all / 86'400, all / 3600 % 24);
}

std::string count(std::uint64_t number) {
  if (number < 100'000) return fmt::format("{}", number);
  double value = static_cast<double>(number) / 1000;
  for (const char* unit = "kMGT"; *unit != '\0'; ++unit, value /= 1000) {
    if (value < 9.95) return fmt::format("{:.1f}{}", value, *unit);
    if (value < 999.5) return fmt::format("{:.0f}{}", value, *unit);
  }
  return "many";
}

std::string mebibytes(std::uint64_t bytes) {
  const double value = static_cast<double>(bytes) / (1 << 20);
  return value < 99.95 ? fmt::format("{:.1f}M", value) : fmt::format("{:.0f}M", value);
}

std::string lag(microseconds time) {
  const double value = static_cast<double>(time.count()) / 1000;
  if (value < 9.995) return fmt::format("{:.2f}ms", value);
  if (value < 999.5) return fmt::format("{:.0f}ms", value);
  return value < 99'950 ? fmt::format("{:.1f}s", value / 1000) : fmt::format("{:.0f}s", value / 1000);
}

std::string clock_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  char text[16];
  return std::string(text, std::strftime(text, sizeof text, "%H:%M:%S", &local));
}

// -- the screen ------------------------------------------------------------------------------------------------------

struct screen {
  bool terminal = ::isatty(STDOUT_FILENO) == 1;
  bool colors = terminal && no_color().empty();

  static std::string no_color() {  // https://no-color.org
    const char* const text = std::getenv("NO_COLOR");
    return text != nullptr ? text : "";
  }

  std::size_t width() const { return size().first; }
  std::size_t height() const { return size().second; }

  std::string paint(const char* color, const std::string& text) const {
    return colors && color != nullptr ? fmt::format("\x1b[{}m{}\x1b[0m", color, text) : text;
  }

 private:
  std::pair<std::size_t, std::size_t> size() const {
    winsize found{};
    if (!terminal || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_col == 0) return {80, 24};
    return {std::max<std::size_t>(found.ws_col, 40), std::max<std::size_t>(found.ws_row, 4)};
  }
};

constexpr const char *bold = "1", *dim = "2", *red = "31", *green = "32", *yellow = "33";

const char* color_of(worker_state state) {
  switch (state) {
    case worker_state::ready: return green;
    case worker_state::dead: return red;
    default: return yellow;
  }
}

std::string plural(std::uint64_t number, std::string_view what) {
  return fmt::format("{} {}{}", count(number), what, number == 1 ? "" : "s");
}

/// What there is to say of the whole. `rate`: connections a second, if that is known; `corner`: for the right margin.
std::vector<std::string> heading(const cluster_stats& stats, pid_t pid, std::optional<double> rate,
                                 const std::string& corner, const screen& to) {
  std::vector<std::string> lines;
  const auto given_up =
      std::count_if(stats.slots.begin(), stats.slots.end(), [](const auto& each) { return each.degraded; });
  std::string state = fmt::format("{} of {} ready", stats.ready, stats.wanted);
  if (given_up != 0) state += fmt::format(", {} degraded", given_up);
  if (stats.stopping) state = "stopping";
  const std::string rest =
      fmt::format("  pid {}  up {}  generation {}  {}  {}", pid, age(stats.uptime), stats.generation,
                  plural(stats.restarts, "restart"), plural(stats.reloads, "reload"));
  const char* const color = stats.stopping || stats.ready < stats.wanted ? yellow : green;
  lines.push_back(to.paint(color, state) + cut(rest, to.width() - state.size()));
  for (const auto& each : stats.listeners) {
    std::string line = printable(each.address);
    if (each.queue) line += fmt::format("  {} of {} waiting", each.queue->waiting, each.queue->limit);
    lines.push_back(cut(line, to.width()));
  }
  for (const auto& each : stats.agents) {
    const std::string what = each.pid == 0 ? "" : fmt::format("  pid {}  up {}", each.pid, age(each.uptime));
    const std::string again = each.restarts == 0 ? "" : "  " + plural(each.restarts, "restart");
    lines.push_back(
        cut(fmt::format("agent {}  {}{}{}", printable(each.name), to_string(each.state), what, again), to.width()));
  }
  std::string counters;
  for (const auto& [name, value] : stats.counters) counters += fmt::format("  {} {}", name, count(value));
  if (!counters.empty()) lines.push_back(cut("counted" + counters, to.width()));
  std::uint64_t open = 0;  // as the workers say it; the primary's own count knows only those that it has accepted
  for (const auto& each : stats.workers) open += each.open;
  std::string line = plural(open, "open connection");
  if (rate) line += fmt::format(", {} a second", count(static_cast<std::uint64_t>(*rate + 0.5)));
  if (line.size() + corner.size() + 2 <= to.width()) {
    line += std::string(to.width() - line.size() - corner.size(), ' ') + to.paint(dim, corner);
  }
  lines.push_back(corner.empty() ? line.substr(0, line.find_last_not_of(' ') + 1) : line);
  return lines;
}

/// `exit 1: why`, `SIGKILL`.
std::string last_exit(const cohort::slot_stats& past) {
  if (!past.last_exit) return {};
  const auto& status = *past.last_exit;
  std::string text;
  if (const auto code = status.code()) {
    text = fmt::format("exit {}", *code);
  } else if (const char* const name = ::sigabbrev_np(status.signal().value_or(0))) {
    text = fmt::format("SIG{}", name);
  } else {
    text = fmt::format("signal {}", status.signal().value_or(0));
  }
  if (past.last_reason == cohort::exit_reason::out_of_memory || past.last_reason == cohort::exit_reason::hang) {
    text += fmt::format(" {}", to_string(past.last_reason));
  } else if (past.last_trouble != fmt::to_string(status)) {
    text += ": " + printable(past.last_trouble);
  }
  return text;
}

/// One line for each worker, and one for each slot that has none.
std::vector<std::string> table(const cluster_stats& stats, const screen& to) {
  constexpr std::size_t columns = 11, state_column = 3;
  struct row {
    std::array<std::string, columns> cells;
    const char* color = nullptr;
    std::string last{};
    const char* last_color = nullptr;
  };
  std::vector<row> rows;
  rows.push_back({{"SLOT", "PID", "GEN", "STATE", "UP", "OPEN", "LEASED", "SERVED", "DIED", "RSS", "LAG"},
                  bold,
                  "LAST EXIT",
                  bold});

  std::map<unsigned, std::vector<const cohort::worker_stats*>> slots;
  for (unsigned slot = 1; slot <= stats.wanted; ++slot) slots[slot];
  for (const auto& each : stats.workers) slots[each.slot].push_back(&each);
  for (const auto& [slot, workers] : slots) {
    const auto number = slot;
    const auto past = std::find_if(stats.slots.begin(), stats.slots.end(),
                                   [number](const auto& each) { return each.slot == number; });
    row one{{std::to_string(slot), "-", "-", "empty", "-", "-", "-", "-", "0", "-", "-"}, red, ""};
    if (past != stats.slots.end()) {
      if (past->degraded) one.cells[state_column] = "degraded";
      one.cells[8] = count(past->restarts + (past->degraded ? 1 : 0));  // nobody has taken the place of the last one
      one.last = last_exit(*past);
      if (past->last_exit && past->last_exit->success()) one.last_color = dim;
    }
    if (workers.empty()) rows.push_back(one);
    for (const auto* each : workers) {
      one.color = color_of(each->state);
      one.cells[2] = std::to_string(each->generation);
      one.cells[state_column] = to_string(each->state);
      if (each->pid != 0) {
        one.cells[1] = std::to_string(each->pid);
        one.cells[4] = age(each->uptime);
        one.cells[5] = count(each->open);
        one.cells[6] = count(each->leased);
        one.cells[7] = count(each->served);
      }
      if (each->memory != 0) {  // it has answered a ping
        one.cells[9] = mebibytes(each->memory);
        one.cells[10] = lag(each->lag);
      }
      rows.push_back(std::exchange(one, row{{std::to_string(slot), "-", "-", "", "-", "-", "-", "-", "", "-", "-"}}));
    }
  }

  // Wide enough for what comes and goes, so that nothing moves at each look.
  std::array<std::size_t, columns> widths = {4, 5, 3, 8, 5, 4, 6, 6, 4, 5, 6};
  for (const auto& each : rows) {
    for (std::size_t i = 0; i < columns; ++i) widths[i] = std::max(widths[i], each.cells[i].size());
  }
  std::vector<std::string> lines;
  for (const auto& each : rows) {
    std::string line;
    std::size_t used = 0;
    for (std::size_t i = 0; i < columns; ++i) {
      const std::string space(widths[i] - each.cells[i].size(), ' ');
      const bool left = i == state_column;
      const bool is_head = &each == &rows.front();
      const std::string text = is_head || left ? to.paint(each.color, each.cells[i]) : each.cells[i];
      line += left ? "  " + text + space + " " : (i == 0 ? "" : " ") + space + text;
      used += widths[i] + (left ? 3 : i == 0 ? 0 : 1);
    }
    const std::string last = cut(each.last, to.width() > used + 3 ? to.width() - used - 2 : 1);
    if (!last.empty()) line += "  " + to.paint(each.last_color, last);
    lines.push_back(line);
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& each : lines) text += each + '\n';
  return text;
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    cohort::throw_error("stdout", errno);
  }
}

/// The other screen of the terminal, without a cursor and with lines that end at its edge, for as long as this lives.
class full_screen {
 public:
  full_screen() { print("\x1b[?1049h\x1b[?25l\x1b[?7l"); }
  full_screen(const full_screen&) = delete;
  ~full_screen() {
    std::fputs("\x1b[?7h\x1b[?25h\x1b[?1049l", stdout);
    std::fflush(stdout);
  }

  void draw(std::vector<std::string> lines, const screen& on) {
    if (lines.size() > on.height()) {
      const std::size_t more = lines.size() - on.height() + 1;
      lines.resize(on.height() - 1);
      lines.push_back(on.paint(dim, fmt::format("… and {} more", more)));
    }
    std::string text = "\x1b[H";
    for (std::size_t i = 0; i < lines.size(); ++i) {
      // What was there is erased first: a line that ends at the edge would lose its last character.
      text += (i == 0 ? "" : "\r\n");
      text += (i + 1 < lines.size() ? "\x1b[K" : "\x1b[J") + lines[i];
    }
    print(text);
  }
};

// -- the verbs -------------------------------------------------------------------------------------------------------

struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct arguments {
  std::string socket;
  std::string verb;
  unsigned number = 0;
  std::optional<double> interval;  // of --watch, in seconds
};

template <class Number>
Number parse(std::string_view what, std::string_view text, Number lowest, Number highest) {
  Number result{};
  const auto* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, result);
  if (parsed.ec == std::errc() && parsed.ptr == end && result >= lowest && result <= highest) return result;
  throw usage_error(fmt::format("{}: want a number from {} to {}, got {}", what, lowest, highest, text));
}

arguments parse_arguments(const std::vector<std::string>& words) {
  arguments result;
  if (const char* const from = std::getenv("COHORT_CONTROL")) result.socket = from;
  std::size_t at = 0;
  if (at < words.size() && words[at] == "--socket") {
    if (at + 1 == words.size()) throw usage_error("--socket: want a path");
    result.socket = words[at + 1];
    at += 2;
  }
  if (at == words.size()) throw usage_error("nothing to do");
  result.verb = words[at++];
  if (result.verb == "status" && at < words.size() && words[at] == "--watch") {
    result.interval = ++at < words.size() ? parse("--watch", words[at++], 0.1, 86'400.0) : 1;
  } else if (result.verb == "scale" || result.verb == "kill-worker") {
    if (at == words.size()) throw usage_error(result.verb + ": want a number");
    result.number = parse(result.verb, words[at++], 1u, std::numeric_limits<unsigned>::max());
  }
  static constexpr std::string_view verbs[] = {"status", "reload",      "upgrade", "scale",
                                               "stop",   "kill-worker", "events",  "metrics"};
  if (std::find(std::begin(verbs), std::end(verbs), result.verb) == std::end(verbs)) {
    throw usage_error("unknown: " + result.verb);
  }
  if (at != words.size()) throw usage_error("too much: " + words[at]);
  if (result.socket.empty()) throw usage_error("which one? give --socket, or set COHORT_CONTROL");
  return result;
}

constexpr const char* usage =
    "usage: cohortctl [--socket PATH] VERB\n"
    "  status                    what there is, as a table\n"
    "  status --watch [SECONDS]  the same, again and again, until Ctrl-C\n"
    "  reload                    replace every worker by a new one\n"
    "  upgrade                   replace the primary, too, and wait until the new one answers\n"
    "  scale N                   have N workers\n"
    "  stop                      stop gracefully, and wait for the end\n"
    "  kill-worker N             end the worker of slot N as a crash would\n"
    "  events                    what happens, until Ctrl-C or the end\n"
    "  metrics                   the figures in the text format of Prometheus\n"
    "Without --socket, PATH is the value of COHORT_CONTROL. The status is 0, or 1 if that\n"
    "could not be done, or 2 if this is not how to say it.\n";

constexpr seconds patience{10};  // for what needs nobody but the primary's loop

/// Served connections a second, from one look to the next: of the workers that are there in both.
class rate_of {
 public:
  std::optional<double> operator()(const cluster_stats& stats) {
    const auto now = std::chrono::steady_clock::now();
    std::map<pid_t, std::uint64_t> served;
    std::uint64_t more = 0;
    for (const auto& each : stats.workers) {
      served[each.pid] = each.served;
      const auto before = served_.find(each.pid);
      if (before != served_.end() && each.served > before->second) more += each.served - before->second;
    }
    std::optional<double> result;
    if (!served_.empty()) result = static_cast<double>(more) / std::chrono::duration<double>(now - then_).count();
    served_ = std::move(served);
    then_ = now;
    return result;
  }

 private:
  std::map<pid_t, std::uint64_t> served_;
  std::chrono::steady_clock::time_point then_;
};

/// Waits for the time of the next look; less if the window gets another size.
asio::awaitable<bool> next_look(asio::steady_timer& timer) {
  std::error_code ended;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ended));
  co_return !ended;
}

asio::awaitable<void> watch(cohort::control_client& client, double interval) {
  const screen out;
  const auto executor = co_await asio::this_coro::executor;
  std::optional<full_screen> whole;
  if (out.terminal) whole.emplace();
  rate_of rate;
  const auto period = std::chrono::duration_cast<milliseconds>(std::chrono::duration<double>(interval));
  const std::string every = fmt::format("every {:g} s, ", interval);
  asio::steady_timer timer(executor);
  asio::signal_set resized(executor, SIGWINCH);
  for (;;) {
    const auto stats = co_await cohort::with_timeout(client.stats(), patience);
    const auto served = rate(stats);
    timer.expires_after(period);
    for (bool again = true; again;) {
      auto lines = heading(stats, client.pid(), served, every + clock_now(), out);
      lines.emplace_back();
      for (auto& each : table(stats, out)) lines.push_back(std::move(each));
      if (whole) {
        whole->draw(std::move(lines), out);
      } else {
        print(joined(lines) + '\n');
      }
      resized.async_wait([&timer](std::error_code error, int) {
        if (!error) timer.cancel();
      });
      const bool over = co_await next_look(timer);
      again = !over;
      if (over) resized.cancel();
      const auto state = co_await asio::this_coro::cancellation_state;
      if (state.cancelled() != asio::cancellation_type::none) co_return;
    }
  }
}

/// Waits until another primary than `old` is at the control socket.
asio::awaitable<void> wait_successor(std::string socket, pid_t old) {
  asio::steady_timer pause(co_await asio::this_coro::executor);
  for (;;) {
    try {
      const auto next = co_await cohort::control_client::connect(socket);
      if (next.pid() != old) co_return;
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      // The old one has let go of it, and the new one has not taken it yet.
    }
    pause.expires_after(milliseconds(20));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

int tell(const std::string& reason, const std::string& done) {
  if (reason.empty()) {
    print(done + '\n');
    return 0;
  }
  fmt::print(stderr, "cohortctl: {}\n", printable(reason));
  return 1;
}

asio::awaitable<int> run(arguments what) {
  auto client = co_await cohort::with_timeout(cohort::control_client::connect(what.socket), patience);
  if (what.verb == "status") {
    if (what.interval) {
      co_await watch(client, *what.interval);
      co_return 0;
    }
    const auto stats = co_await cohort::with_timeout(client.stats(), patience);
    const screen out;
    auto lines = heading(stats, client.pid(), std::nullopt, "", out);
    lines.emplace_back();
    for (auto& each : table(stats, out)) lines.push_back(std::move(each));
    print(joined(lines));
    co_return 0;
  }
  if (what.verb == "metrics") {
    const auto stats = co_await cohort::with_timeout(client.stats(), patience);
    print(cohort::to_prometheus(stats));
    co_return 0;
  }
  if (what.verb == "events") {
    const screen out;
    const auto show = [out](const cohort::cluster_event& event) {
      print(out.paint(dim, clock_now()) + "  " + printable(to_string(event)) + '\n');
    };
    const auto end = co_await client.follow(show);
    co_return end.success() ? 0 : 1;
  }
  if (what.verb == "reload") {
    const auto result = co_await client.reload();
    const std::string where = result.aborted_at != 0 ? fmt::format("worker {}: ", result.aborted_at) : std::string();
    co_return tell(result.success() ? std::string() : "reload: " + where + result.reason,
                   fmt::format("generation {}, {}", result.generation, plural(result.replaced, "new worker")));
  }
  if (what.verb == "upgrade") {
    const pid_t old = client.pid();
    const auto result = co_await client.upgrade();
    if (result.success()) co_await cohort::with_timeout(wait_successor(what.socket, old), patience);
    co_return tell(result.success() ? std::string() : "upgrade: " + result.reason,
                   fmt::format("primary {} serves", result.pid));
  }
  if (what.verb == "scale") {
    const auto result = co_await cohort::with_timeout(client.scale(what.number), patience);
    co_return tell(result.reason, fmt::format("scaled to {}", what.number));
  }
  if (what.verb == "kill-worker") {
    const auto result = co_await cohort::with_timeout(client.kill_worker(what.number), patience);
    co_return tell(result.reason, fmt::format("worker {} killed", what.number));
  }
  const auto result = co_await cohort::with_timeout(client.stop(), patience);
  if (result.success()) co_await client.wait_end();
  co_return tell(result.reason, "stopped");
}

}  // namespace

int main(int argc, char* argv[]) {
  arguments what;
  if (argc == 2 && argv[1] == std::string_view("--help")) {
    fmt::print("{}", usage);
    return 0;
  }
  try {
    what = parse_arguments(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const usage_error& error) {
    fmt::print(stderr, "cohortctl: {}\n{}", error.what(), usage);
    return 2;
  }

  ::signal(SIGPIPE, SIG_IGN);  // `cohortctl events | head` ends by an error of write
  asio::io_context context(1);
  asio::cancellation_signal cancel;
  asio::signal_set interrupts(context, SIGINT, SIGTERM, SIGHUP);
  int interrupted = 0;
  interrupts.async_wait([&](std::error_code error, int number) {
    if (error) return;
    interrupted = number;
    cancel.emit(asio::cancellation_type::terminal);
  });
  int status = 1;
  asio::co_spawn(context, run(what),
                 asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr failure, int result) {
                   interrupts.cancel();
                   status = result;
                   try {
                     if (failure) std::rethrow_exception(failure);
                   } catch (const std::exception& error) {
                     status = 1;
                     if (interrupted == 0) fmt::print(stderr, "cohortctl: {}\n", printable(error.what()));
                   }
                 }));
  context.run();
  // What only looks is ended in no other way.
  if (interrupted == SIGINT && (what.verb == "events" || what.interval)) return 0;
  return interrupted != 0 ? 128 + interrupted : status;
}
