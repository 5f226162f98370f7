// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace cohort::bench {

void ping_pongs();
void one_way();
void handles();
void loans();

}  // namespace cohort::bench
