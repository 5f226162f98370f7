// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/ipc/transport/fifo.hpp"

#include <memory>
#include <vector>

#include "../../support/harness.hpp"

namespace cohort::test::fifo_test {
namespace {

using detail::fifo;

PLAIN_TEST("what goes into a queue comes out in order, however long it gets and whenever it is taken") {
  fifo<int> numbers;
  int put = 0, taken = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 7 * round; ++i) numbers.push_back(put++);
    for (int i = 0; i < 6 * round; ++i, ++taken) {
      REQUIRE(numbers.front() == taken);
      numbers.pop_front();
    }
    REQUIRE(numbers.size() == static_cast<std::size_t>(put - taken));
  }
  CHECK(numbers.back() == put - 1);
  CHECK(std::vector<int>(numbers.begin(), numbers.end()).front() == taken);
  for (; taken < put; ++taken) numbers.pop_front();
  CHECK(numbers.empty());
  CHECK(numbers.begin() == numbers.end());
}

PLAIN_TEST("what is taken from a queue is gone at once") {
  fifo<std::shared_ptr<int>> held;
  const auto first = std::make_shared<int>(1);
  held.push_back(first);
  held.push_back(std::make_shared<int>(2));
  CHECK(first.use_count() == 2);
  held.pop_front();
  CHECK(first.use_count() == 1);
  CHECK(*held.front() == 2);
}

PLAIN_TEST("an element leaves a queue from anywhere") {
  fifo<int> numbers;
  for (int i = 0; i < 4; ++i) numbers.push_back(i);
  numbers.pop_front();
  numbers.erase_if([](int each) { return each == 2; });
  CHECK(std::vector<int>(numbers.begin(), numbers.end()) == std::vector<int>{1, 3});
  numbers.insert(numbers.begin() + 1, 7);
  CHECK(std::vector<int>(numbers.begin(), numbers.end()) == std::vector<int>{1, 7, 3});
}

PLAIN_TEST("the last element leaves a queue by erasure, and another one comes") {
  fifo<int> numbers;
  numbers.push_back(1);
  numbers.push_back(2);
  numbers.pop_front();
  numbers.erase_if([](int each) { return each == 2; });
  CHECK(numbers.empty());
  numbers.push_back(3);
  CHECK(numbers.front() == 3);
  CHECK(numbers.size() == 1);
}

}  // namespace
}  // namespace cohort::test::fifo_test
