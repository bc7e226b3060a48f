// traffic_controller.bpf.c under the section name that older programs use for the
// same place.
//
//     sudo skep run examples/traffic_controller_action.bpf.c --iface eth0

#define SECTION "action/egress"
#include "traffic_controller.bpf.c"
