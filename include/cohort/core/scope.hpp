// SPDX-License-Identifier: BSL-1.0
/// What is undone at the end of a scope, however that ends.
#pragma once

#include <utility>
#include <vector>

namespace cohort::detail {

/// Calls a function at the end of the scope: `const on_exit close([&] { events_.close(); });`. The function must not
/// throw.
template <class Function>
class on_exit {
 public:
  explicit on_exit(Function function) : function_(std::move(function)) {}
  on_exit(const on_exit&) = delete;
  on_exit& operator=(const on_exit&) = delete;
  ~on_exit() { function_(); }

 private:
  Function function_;
};

/// Counts a number up for as long as it lives.
template <class Number>
class counted {
 public:
  explicit counted(Number& number) : number_(number) { ++number_; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --number_; }

 private:
  Number& number_;
};

/// Keeps an item in a vector for as long as it lives.
template <class T>
class listed {
 public:
  listed(std::vector<T>& list, T item) : list_(list), item_(std::move(item)) { list_.push_back(item_); }
  listed(const listed&) = delete;
  listed& operator=(const listed&) = delete;
  ~listed() { std::erase(list_, item_); }

 private:
  std::vector<T>& list_;
  T item_;
};

}  // namespace cohort::detail
