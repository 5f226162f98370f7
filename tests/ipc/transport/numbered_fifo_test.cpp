// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/transport/numbered_fifo.hpp"

#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "../../support/harness.hpp"

namespace cohort::test::numbered_fifo_test {
namespace {

using detail::numbered_fifo;

PLAIN_TEST("whatever is added, taken and removed, the queue is what an ordered map is") {
  std::mt19937 random(5);
  numbered_fifo<std::vector<std::uint64_t>> queue;
  std::map<std::uint64_t, std::vector<std::uint64_t>> model;
  std::uint64_t last = 0;
  for (int round = 0; round < 30'000; ++round) {
    const bool grows = round / 3000 % 2 == 0;
    if (random() % 4 < (grows ? 3u : 1u)) {
      last += 1 + random() % 3;
      queue.push_back(last, {last});
      model[last] = {last};
    } else if (random() % 3 == 0 && !model.empty()) {
      queue.pop_front();
      model.erase(model.begin());
    } else if (last != 0) {
      const std::uint64_t number = 1 + random() % last;
      const auto at = model.find(number);
      REQUIRE((queue.find(number) != nullptr) == (at != model.end()));
      if (at != model.end()) {
        REQUIRE(*queue.find(number) == at->second);
        queue.remove(number);
        model.erase(at);
      }
    }
    REQUIRE(queue.size() == model.size());
    REQUIRE(queue.empty() == model.empty());
    if (!model.empty()) REQUIRE(queue.front() == model.begin()->second);
  }
  std::vector<std::uint64_t> left;
  queue.for_each([&](const std::vector<std::uint64_t>& each) { left.push_back(each.at(0)); });
  std::vector<std::uint64_t> expected;
  for (const auto& each : model) expected.push_back(each.first);
  CHECK(left == expected);
}

PLAIN_TEST("removing all from the end of a long queue, or looking for what is not there, does not move the others") {
  constexpr std::uint64_t many = 300'000;  // for a quadratic queue, minutes
  numbered_fifo<std::vector<char>> queue;
  for (std::uint64_t i = 1; i <= many; ++i) queue.push_back(2 * i, {});
  for (std::uint64_t i = 1; i <= many; ++i) REQUIRE(queue.find(2 * i + 1) == nullptr);
  for (std::uint64_t i = many; i > 1; --i) queue.remove(2 * i);
  CHECK(queue.size() == 1);
  queue.remove(2);
  CHECK(queue.empty());
}

}  // namespace
}  // namespace cohort::test::numbered_fifo_test
