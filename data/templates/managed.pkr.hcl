# Used as it is: rabbit2packer gives the values of the variables below in a var-file. A variable
# that a template does not declare is not given.

# Packer 1.7 and later can install the plugin by itself (packer init); Packer 1.6 has it built in
# and does not know this block.
# packer {
#   required_plugins {
#     openstack = {
#       source  = "github.com/hashicorp/openstack"
#       version = ">= 1.1.2"
#     }
#   }
# }

variable "name" {
  type = string
}

variable "image" {
  type = string
}

variable "build_id" {
  type = string
}

variable "metadata" {
  type = map(string)
}

source "openstack" "managed" {
  image_name        = var.name
  instance_name     = "packuilon-${var.build_id}"
  source_image      = var.image
  instance_metadata = var.metadata
  image_visibility  = "private"
  flavor            = "m1.small"
  networks          = ["REPLACE-WITH-THE-ID-OF-A-NETWORK"]
  ssh_username      = "root"
  ssh_timeout       = "15m"
}

build {
  sources = ["source.openstack.managed"]

  provisioner "shell" {
    script           = "${path.root}/../guest/configure-with-quattor.sh"
    environment_vars = ["PROFILE_URL=http://REPLACE-WITH-YOUR-AQUILON-SERVER/profiles"]
    timeout          = "1h"
  }
}
