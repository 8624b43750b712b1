-- Included by change_group.lua, delete_idle.lua, observe.lua and retire.lua; uses neither KEYS nor ARGV.
-- {name, value, name, value...}, as XINFO answers -> a table by name
local function pairs_of(list)
  local found = {}
  for i = 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end
