# What Firedoor's own Vault token may do, and nothing else. Write one `sys/leases/lookup/...` line for every lease
# prefix that agents.yaml names (listing leases is a root-protected path, hence sudo), and one mode path for the mount
# where the agents read their mode. Give the token a period and no `default` policy.
# Left out on purpose: revoke-force (it drops a lease whose credential may still live). No action asks for it.

# vault.revoke_agent
path "sys/leases/lookup"                              { capabilities=["update"] }
path "sys/leases/lookup/aws/creds/*"                  { capabilities=["list","sudo"] }
path "sys/leases/revoke"                              { capabilities=["update"] }
path "sys/leases/count"                               { capabilities=["read"] }
path "auth/token/lookup-accessor"                     { capabilities=["update"] }
path "auth/token/revoke-accessor"                     { capabilities=["update"] }
path "auth/token/accessors"                           { capabilities=["list","sudo"] }
path "identity/entity/id/*"                           { capabilities=["read","update"] }
path "auth/approle/role/+/secret-id"                  { capabilities=["list"] }
path "auth/approle/role/+/secret-id-accessor/destroy" { capabilities=["update"] }

# which leases Vault has given up on, by name
path "sys/leases"                                     { capabilities=["read","sudo"] }

# vault.revoke_prefix: leave it out where no playbook uses it
path "sys/leases/revoke-prefix/aws/creds/*"           { capabilities=["update","sudo"] }

# vault.stop_role; vault.revoke_accessors only reads (does a role issue batch tokens?). Leave it out where no playbook
# uses them, and add a line for each of `auth_roles`
path "auth/approle/role/+"                            { capabilities=["create","read","update","delete"] }
path "auth/approle/role/+/role-id"                    { capabilities=["read","update"] }

# evidence.collect: what the agent was allowed, and its lines in the audit log
path "identity/group/id/*"                            { capabilities=["read"] }
path "sys/policies/acl/*"                             { capabilities=["read"] }
path "sys/audit-hash/*"                               { capabilities=["update"] }

# firedoor doctor: that the token is good, and what it may do
path "auth/token/lookup-self"                         { capabilities=["read"] }
path "sys/capabilities-self"                          { capabilities=["update"] }

# agent.set_mode
path "agents/data/+/mode"                             { capabilities=["create","update","read"] }
