/* VLAN tags as they lie in a frame. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/if_vlan.h>)
#include_next <linux/if_vlan.h>
#elif !defined(__SKEP_UAPI_LINUX_IF_VLAN_H)
#define __SKEP_UAPI_LINUX_IF_VLAN_H

#include <linux/types.h>

#define VLAN_HLEN 4
#define VLAN_ETH_HLEN 18
#define VLAN_PRIO_MASK 0xe000
#define VLAN_PRIO_SHIFT 13
#define VLAN_CFI_MASK 0x1000
#define VLAN_VID_MASK 0x0fff
#define VLAN_N_VID 4096

#ifndef __VMLINUX_H__
struct vlan_hdr {
	__be16 h_vlan_TCI;
	__be16 h_vlan_encapsulated_proto;
};
#endif

#endif
