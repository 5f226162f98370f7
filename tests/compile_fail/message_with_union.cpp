// expect: use std::variant
#include <cohort/ipc/codec/codec.hpp>

union either {
  int number;
  float real;
};
struct job {
  either value;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
