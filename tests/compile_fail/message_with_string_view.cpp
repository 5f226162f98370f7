// expect: use std::string
#include <string_view>

#include <cohort/ipc/codec/codec.hpp>

struct job {
  std::string_view text;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
