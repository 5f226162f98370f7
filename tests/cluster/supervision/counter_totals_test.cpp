// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/supervision/counter_totals.hpp"

#include <cstdint>
#include <limits>
#include <string>

#include "../../support/harness.hpp"

namespace cohort::test::counter_totals_test {
namespace {

PLAIN_TEST("totals add up what each process has counted, and keep that of those that are gone") {
  counter_totals totals;
  counter_totals::said one, other;
  CHECK(totals.take(one, "orders", 3));
  CHECK(totals.take(other, "refunds", 0));
  CHECK(totals.take(other, "orders", 4));
  CHECK(totals.take(one, "orders", 5));
  CHECK(totals.take(one, "orders", 5));
  CHECK(totals.all().at("orders") == 9);
  CHECK(totals.all().at("refunds") == 0);
  counter_totals::said replacement;
  CHECK(totals.take(replacement, "orders", 1));
  CHECK(totals.all().at("orders") == 10);
}

PLAIN_TEST("totals only grow, and do not overflow") {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  counter_totals totals;
  counter_totals::said one, other;
  CHECK(totals.take(one, "orders", 3));
  CHECK_FALSE(totals.take(one, "orders", 2));
  CHECK(totals.take(other, "orders", 10));
  CHECK_FALSE(totals.take(one, "orders", most - 9));
  CHECK(totals.all().at("orders") == 13);
  CHECK(totals.take(one, "orders", most - 10));
  CHECK(totals.all().at("orders") == most);
  CHECK_FALSE(totals.take(other, "orders", 11));
}

PLAIN_TEST("totals take 64 names that are names") {
  counter_totals totals;
  counter_totals::said one;
  for (const std::string bad : {"", "9", "a b", "a\"} 1\nup"}) CHECK_FALSE(totals.take(one, bad, 1));
  for (int i = 0; i < 100; ++i) CHECK(totals.take(one, "n" + std::to_string(i), 1) == (i < 64));
  CHECK(totals.take(one, "n63", 2));
  CHECK(totals.all().size() == 64);
  CHECK(one.size() == 64);
}

}  // namespace
}  // namespace cohort::test::counter_totals_test
