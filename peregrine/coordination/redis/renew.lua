-- Put our token in the place of the one that we know, for a whole lease; both are the same in a renewal.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) and 1
