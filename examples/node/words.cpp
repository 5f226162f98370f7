// SPDX-License-Identifier: BSL-1.0
// Typed messages to and from a child that is a Python script: words python3 words.py

#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include <cohort/core/run_sync.hpp>
#include <cohort/ipc/node/peer.hpp>

using cohort::asio::awaitable;

struct count {
  std::string text;
};

struct weigh {
  std::string text;
};

struct counted {
  std::map<std::string, int> words;
};

struct refused {
  std::string what;
};

/// The alternatives go as {"type": "count", "text": "..."} and so on.
struct protocol {
  using to_child = std::variant<count, weigh>;
  using to_parent = std::variant<counted, refused>;
};

void show(const counted& answer) {
  for (const auto& [word, times] : answer.words) fmt::print("{} {}\n", times, word);
}

void show(const refused& answer) { fmt::print("refused to {}\n", answer.what); }

awaitable<void> run(cohort::command python) {
  auto child = co_await cohort::spawn<protocol, cohort::node_wire>(std::move(python));
  co_await child.send<count>("to be or not to be");
  co_await child.send<weigh>("the same");
  for (int answers = 0; answers < 2; ++answers) {
    const auto answer = co_await child.receive();
    if (!answer) break;
    std::visit([](const auto& each) { show(each); }, *answer);
  }
  co_await child.disconnect();
  const auto status = co_await child.wait();
  fmt::print("the child exited with {}\n", status.code().value_or(-1));
}

int main(int argc, char** argv) {
  try {
    if (argc != 3) {
      fmt::print(stderr, "usage: words PYTHON SCRIPT\n");
      return 2;
    }
    cohort::run_sync(run(cohort::command(argv[1], argv[2])));
  } catch (const std::exception& error) {
    fmt::print(stderr, "words: {}\n", error.what());
    return 1;
  }
}
